"""WebSockets: uvicorn's protocol on websockets' parser, with bounds.

Both of uvicorn's WebSocket protocols bound the size of one message, and nothing over all connections. Here
what a peer sends takes its share of the grid's room as it comes, whether or not a message is whole, and
frames that come too fast end the connection: each costs the parser time, also an empty one.
"""

import asyncio

from uvicorn._types import ASGIReceiveEvent
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from fedplan.errors import OverloadedError
from fedplan.grid.web.connections.bounds import BoundedConnection
from fedplan.grid.web.connections.frames import Frames

_POLICY, _TRY_AGAIN = 1008, 1013
"""Codes of an end: the peer does what it may not; or it may come again later."""


class BoundedWebSocket(BoundedConnection, WebSocketsSansIOProtocol):
    """uvicorn's WebSocket protocol for one connection, bounded; the names are those of its callbacks."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A connection has become a WebSocket; it was one of the peers' before, so there is room for it."""
        super().connection_made(transport)
        self._intake = self.bounds.intake()
        self._coming = self._intake.room()  # for what has come and the app has not received
        self._answered = self._intake.room()  # for what the app is answering
        self._frames_seen = Frames()

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection has ended."""
        self._coming.give_back()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Takes what has come, if there is room for it."""
        if not self.handshake_initiated:  # the request that opens the WebSocket
            super().data_received(data)
            return
        if self.close_sent:
            return
        if self._frames_seen.are_too_many(data):
            self._fail(_POLICY, "too many frames in too short a time")
            return
        try:
            self._coming.take(len(data))
        except OverloadedError as error:
            self._fail(_TRY_AGAIN, str(error))
            return
        super().data_received(data)

    async def receive(self) -> ASGIReceiveEvent:
        """The next message, when the last one has been answered."""
        self._answered.give_back()
        message = await super().receive()
        self._answered, self._coming = self._coming, self._intake.room()
        return message

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The app answers no more."""
        self._answered.give_back()
        self._coming.give_back()
        super().on_task_complete(task)

    def _fail(self, code: int, reason: str) -> None:
        """Ends the connection, and says why."""
        self.conn.fail(code, reason)
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.close_sent = True
        self.transport.close()
