from collections.abc import Iterator
from typing import Any

import pytest

from fedplan.grid import Settings, create_app
from tests.client.secure.rounds import JumpingClock
from tests.client.small_grid import serve


class Received:
    """An ASGI app that notes every byte that comes before it passes it on."""

    def __init__(self, app: Any) -> None:
        self._app = app
        self.bytes = bytearray()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bytes += repr(scope.get("query_string")).encode()

        async def noted() -> Any:
            message = await receive()
            self.bytes += message.get("body", b"") or message.get("bytes") or b""
            self.bytes += (message.get("text") or "").encode()
            return message

        await self._app(scope, noted, send)


@pytest.fixture(scope="module")
def clock() -> JumpingClock:
    return JumpingClock()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return tmp_path_factory.mktemp("grid")


@pytest.fixture(scope="module")
def received(clock: JumpingClock, folder: Any) -> Received:
    settings = Settings(data_dir=folder, poll_seconds=0.05, retry_seconds=0.1)
    return Received(create_app(settings, wall=clock, monotonic=clock))


@pytest.fixture(scope="module")
def url(received: Received) -> Iterator[str]:
    """The URL of a grid, on a socket, whose time a test can let pass."""
    with serve(received) as url:
        yield url
