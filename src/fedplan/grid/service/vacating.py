"""How a worker leaves a cycle without a report: it declines."""

import logging

from fedplan.errors import ReportConflictError
from fedplan.federation import round_of
from fedplan.grid.auth import key_digest
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Process
from fedplan.grid.service.access import find_place
from fedplan.grid.store import participation, rounds
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import DeclineRequest, Success

logger = logging.getLogger(__name__)


async def decline(grid: Grid, request: DeclineRequest) -> Success:
    """Takes the place of a worker that gives it back; others may have it, and so may the worker, later.

    Doing it again changes nothing, and neither does it when the cycle is over.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        ReportConflictError: the worker has reported, so there is no place to give back.
    """
    async with grid.store.reading() as db:
        place, cycle = await find_place(db, request.worker_id, request.request_key)
    if place.reported:
        raise ReportConflictError("this worker has reported in this cycle: it has no place to give back")
    process = (await grid.known.hosted(cycle.process_id)).process
    async with grid.store.writing() as db:
        left = await participation.release_place(db, place, key_digest(request.request_key))
        complete = left is not None and await _close_if_complete(grid, db, process, left)
    if left is not None:
        grid.metrics.vacated.labels("declined").inc()
        logger.info("a worker declined cycle %d of '%s': %r", left.number, process.name, request.reason)
    if complete:
        grid.closable.set()
    return Success()


async def _close_if_complete(grid: Grid, db: Db, process: Process, cycle: Cycle) -> bool:
    """Lets a cycle close that waited only for workers that have left it."""
    complete = round_of(grid.known.strategy(process)).reporting.is_complete(cycle, grid.clock())
    if complete:
        await rounds.set_closing(db, cycle.id)
    return complete
