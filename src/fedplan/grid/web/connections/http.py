"""How bytes become requests: uvicorn's protocol on httptools, with bounds.

httptools (llhttp, the parser of Node) is several times faster than h11, but collects a request's head, the
extensions of its chunks and the trailers behind them without any limit. Here bytes are counted from which
the parser has made nothing but these; too many end the connection. So do a head that does not come, and a
peer that does not take its answer.
"""

import asyncio
import json
from typing import Any

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from fedplan.grid.web.connections.bounds import Deadline, bounds_of

MOST_HEAD_BYTES = 64 * 1024
"""Bytes that may come before a head, a chunk's line or a body's trailers end. One read of the socket more
than that may be looked at."""

_TOO_MANY = json.dumps({"error": "the grid has as many connections as it can hold; try again later"}).encode()
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
)


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol for one connection, bounded; the names are those of its callbacks."""

    _collected = 0

    def __init__(
        self,
        config: uvicorn.Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """See uvicorn. The config is a `BoundedConfig`."""
        super().__init__(config, server_state, app_state, _loop)
        self._bounds = bounds_of(config)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A peer has connected."""
        super().connection_made(transport)
        self._head = Deadline(self.loop, self._bounds.head_seconds, transport.close)
        self._stall = Deadline(self.loop, self._bounds.stall_seconds, transport.abort)
        if self._bounds.peers.enter(self, self.client[0] if self.client else ""):
            self._head.begin()
        else:
            transport.write(_TURNED_AWAY)
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        if self.cycle is None or self.cycle.response_complete:
            self._head.begin()
        self._collected += len(data)
        super().data_received(data)
        if self._collected > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"more than {MOST_HEAD_BYTES} bytes of headers")

    def on_headers_complete(self) -> None:
        """The head is whole."""
        self._head.end()
        self._collected = 0
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body, whose size is the calls' business."""
        self._collected = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._collected = 0
        super().on_message_complete()

    def handle_websocket_upgrade(self) -> None:
        """The connection goes on as a WebSocket, which counts itself."""
        self._leave()
        super().handle_websocket_upgrade()

    def pause_writing(self) -> None:
        """The peer takes its answer more slowly than it is written."""
        self._stall.begin()
        super().pause_writing()

    def resume_writing(self) -> None:
        """The peer has taken most of what was written."""
        self._stall.end()
        super().resume_writing()

    def _leave(self) -> None:
        self._bounds.peers.leave(self)
        self._head.end()
        self._stall.end()
