"""Large bodies, sent as fast as the peer takes them."""

from fastapi import Response
from starlette.types import Receive, Scope, Send

_SENT_BYTES = 256 * 1024
"""Of a body, at once."""


class Pieces(Response):
    """A response whose body is sent piece by piece, each when the peer has taken the one before.

    Written at once, a large body would be copied for each peer, and held for as long as a slow one takes.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        whole = memoryview(self.body)
        for at in range(0, len(whole), _SENT_BYTES):
            piece = whole[at : at + _SENT_BYTES]
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
