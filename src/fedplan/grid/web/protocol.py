"""How bytes become requests: uvicorn's protocol on httptools, with a bound on what it collects.

httptools (llhttp, the parser of Node) is several times faster than h11, but collects a request's head, the
extensions of its chunks and the trailers behind them without any limit. Here bytes are counted from which
the parser has made nothing but these; too many end the connection.
"""

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEAD_BYTES = 64 * 1024
"""Bytes that may come before a head, a chunk's line or a body's trailers end. One read of the socket more
than that may be looked at."""


class BoundedHttp(HttpToolsProtocol):
    """uvicorn's HTTP protocol for one connection, bounded; the names are those of its callbacks."""

    _collected = 0

    def data_received(self, data: bytes) -> None:
        """Takes what has come."""
        self._collected += len(data)
        super().data_received(data)
        if self._collected > MOST_HEAD_BYTES and not self.transport.is_closing():
            self.send_400_response(f"more than {MOST_HEAD_BYTES} bytes of headers")

    def on_headers_complete(self) -> None:
        """The head is whole."""
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
