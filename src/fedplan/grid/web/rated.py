"""Answers no more requests of one address than it may send."""

from starlette.types import ASGIApp, Receive, Scope, Send

from fedplan.errors import TooManyRequestsError
from fedplan.grid.grid import Grid
from fedplan.grid.observing.correlation import current
from fedplan.grid.web.http import to_response
from fedplan.grid.web.replies import refusal


class Rated:
    """An app that each address may ask so often. The messages of a WebSocket are counted where they are read.

    Args:
        app: the app.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        request = current()
        if scope["type"] == "http" and request is not None:
            grid: Grid = scope["app"].state.grid
            try:
                grid.rates.take(request.address)
            except TooManyRequestsError as error:
                grid.metrics.requests.labels("other", "http", "429").inc()
                await to_response(refusal(error))(scope, receive, send)
                return
        await self._app(scope, receive, send)
