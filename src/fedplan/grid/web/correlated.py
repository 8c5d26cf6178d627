"""Gives each request its id, and each answer that of its request."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedplan.grid.correlation import Correlation, answering, id_for

REQUEST_ID = "x-request-id"
"""The header, of requests and of answers."""

_BEGINS_ANSWER = ("http.response.start", "websocket.accept")


class Correlated:
    """An app whose requests have ids. The messages of a WebSocket have ids of their own besides.

    Args:
        app: the app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        asked = Headers(scope=scope).get(REQUEST_ID)
        correlation = Correlation(id_for(asked), client[0] if client else None)
        header = (REQUEST_ID.encode(), correlation.id.encode())

        async def answer(message: Message) -> None:
            if message["type"] in _BEGINS_ANSWER:
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with answering(correlation):
            await self._app(scope, receive, answer)
