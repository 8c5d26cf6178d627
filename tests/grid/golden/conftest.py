import base64
import secrets

import pytest

from tests.grid.peers import Peer

from . import hosted
from .replay import replay


@pytest.fixture
def grid(server, http):
    return Grid(server, Peer(http))


class Grid:
    """Hosts the model of a conversation, replays the conversation, and tells what came of it."""

    def __init__(self, server, peer):
        self._server, self._peer = server, peer

    async def host(self, *, large=False, parts=None, **server_config):
        """Hosts the model; returns its name."""
        name = f"m-{secrets.token_hex(4)}"
        chosen = hosted.large_model() if large else hosted.small_model()
        await self._peer.host(name, server=server_config, **chosen | (parts or {}))
        return name

    async def hears(self, *steps, large=False, parts=None, known=None, **server_config):
        """Hosts the model and replays the steps; returns its name."""
        name = await self.host(large=large, parts=parts, **server_config)
        diff = hosted.report(hosted.LARGE if large else None)
        knows = {
            "model": name,
            "diff": diff,
            "diff_in_lines": base64.encodebytes(base64.b64decode(diff)).decode().replace("\n", "\\n"),
            "diff_escaped": diff.replace("/", "\\/"),
        }
        assert large or knows["diff"] != knows["diff_escaped"]
        await replay(steps, self._server, knows | (known or {}))
        return name

    async def trained(self, name):
        """The parameters after the first cycle."""
        await self._peer.until_checkpoint(2, name)
        return await self._peer.checkpoint(name)

    async def withheld_from(self, name):
        """The clients that the status says are rejected."""
        return [withheld["client"] for withheld in (await self._peer.status(name))["withheld"]]
