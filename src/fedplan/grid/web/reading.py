"""What may be asked of a grid by who may observe it: one table, a GET for each row."""

import dataclasses
from collections.abc import Awaitable, Callable

from fastapi import Request

from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.service.history import history
from fedplan.grid.service.lineage import checkpoints
from fedplan.grid.service.status import status
from fedplan.grid.service.why import why
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.http import answered, calls, parse_query
from fedplan.wire import messages
from fedplan.wire.messages import CHECKPOINTS, HISTORY, STATUS, WHY, Reply, StatusReply, StatusRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """One thing that may be asked.

    Attributes:
        query: what its query holds.
        run: the use case.
    """

    query: type[messages.Request]
    run: Callable[..., Awaitable[Reply]]


async def find_status(grid: Grid, request: StatusRequest) -> StatusReply:
    """The hosted models, their cycles and checkpoints.

    Raises:
        NotFoundError: there is no model of that name.
    """
    return await status(grid, request.name)


READINGS: dict[str, Reading] = {
    STATUS: Reading(StatusRequest, find_status),
    HISTORY: Reading(messages.HistoryRequest, history),
    CHECKPOINTS: Reading(messages.CheckpointsRequest, checkpoints),
    WHY: Reading(messages.WhyRequest, why),
}
"""By message type, which is also the path."""


def _add_reading(type: str, reading: Reading) -> None:
    """Serves a row of the table under its type as the path."""

    @answered(type)
    async def handler(request: Request) -> Reply:
        grid: Grid = request.app.state.grid
        await grid.access.require(Caller.of(request.headers), Scope.OBSERVE)
        return await reading.run(grid, parse_query(reading.query, request))

    calls.add_api_route(f"/{type}", handler, methods=["GET"], name=type, response_model=None)


for _type, _reading in READINGS.items():
    _add_reading(_type, _reading)
