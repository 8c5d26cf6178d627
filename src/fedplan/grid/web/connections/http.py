"""How bytes become requests: uvicorn's protocol on httptools, with bounds.

httptools (llhttp, the parser of Node) is several times faster than h11, but collects a request's head, the
extensions of its chunks and the trailers behind them without any limit. Here bytes are counted from which
the parser has made nothing but these; too many end the connection. So do a head that does not come, and a
peer that does not take its answer.
"""

import asyncio
import json

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from fedplan.grid.web.connections.bounds import BoundedConnection, Deadline

MOST_HEAD_BYTES = 64 * 1024
"""Bytes that may come before a head, a chunk's line or a body's trailers end. One read of the socket more
than that may be looked at."""

_TOO_MANY = json.dumps({"error": "the grid has as many connections as it can hold; try again later"}).encode()
_TURNED_AWAY = (
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\nretry-after: 5\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%b" % (len(_TOO_MANY), _TOO_MANY)
)


class BoundedHttp(BoundedConnection, HttpToolsProtocol):
    """uvicorn's HTTP protocol for one connection, bounded; the names are those of its callbacks."""

    _collected = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A peer has connected."""
        super().connection_made(transport)
        self._head = Deadline(self.loop, self.bounds.head_seconds, self.transport.close)
        if self.is_admitted:
            self._head.begin()
        else:
            self.transport.write(_TURNED_AWAY)
            self.transport.close()

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
        self.leave()
        super().handle_websocket_upgrade()

    def leave(self) -> None:
        """The connection counts no more."""
        self._head.end()
        super().leave()
