"""Gives each request its id, and each answer that of its request."""

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fedplan.grid.observing.correlation import Correlation, answering, id_for
from fedplan.grid.web.proxies import Proxies

REQUEST_ID = "x-request-id"
"""The header, of requests and of answers."""

_BEGINS_ANSWER = ("http.response.start", "websocket.accept")


class Correlated:
    """An app whose requests have ids. The messages of a WebSocket have ids of their own besides.

    Args:
        app: the app.
        proxies: whose word is taken for where a request comes from.
    """

    def __init__(self, app: ASGIApp, proxies: Proxies | None = None) -> None:
        self._app = app
        self._proxies = proxies or Proxies(())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        client = scope.get("client")
        asked = Headers(scope=scope).get(REQUEST_ID)
        address = self._proxies.client(client[0], scope["headers"]) if client else None
        correlation = Correlation(id_for(asked), address)
        header = (REQUEST_ID.encode(), correlation.id.encode())

        async def answer(message: Message) -> None:
            if message["type"] in _BEGINS_ANSWER:
                message = {**message, "headers": [*message.get("headers", ()), header]}
            await send(message)

        with answering(correlation):
            await self._app(scope, receive, answer)
