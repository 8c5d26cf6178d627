"""How a worker leaves a cycle without a report: it declines, or it is gone and its place lapses."""

import logging
from collections.abc import Awaitable, Callable, Iterable

from fedplan.errors import ReportConflictError
from fedplan.federation import GATHER, KEYS, gone_since, round_of
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import key_digest
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import Cycle, Phase, Process, Running
from fedplan.grid.secure import queries as secure_queries
from fedplan.grid.secure.progress import heed, is_secure
from fedplan.grid.service.access import find_place
from fedplan.grid.service.events import about, of_workers, record
from fedplan.grid.store import participation, rounds
from fedplan.grid.store.connection import Db
from fedplan.grid.web.replies import log_failure
from fedplan.wire.messages import DeclineRequest, Success

logger = logging.getLogger(__name__)

_UNKNOWN_SECONDS = 60.0
"""After how long a cycle is looked at again that this grid cannot run."""


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
    process = (await grid.known.of_cycle(cycle)).process
    async with grid.store.writing() as db:
        left = await participation.release_place(db, place, key_digest(request.request_key))
        complete = False
        if left is not None:
            if is_secure(process, left) and left.stage in (GATHER, KEYS):
                await secure_queries.drop_keys(db, place.id)
            why = request.reason or "it gave no reason"
            declined = about(process, Kind.DECLINED, why, cycle=left, worker_id=place.worker_id)
            complete = await _close_if_complete(grid, db, process, left, declined)
    if left is not None:
        grid.metrics.vacated.labels("declined").inc()
        logger.info("a worker declined cycle %d of '%s': %r", left.number, process.name, request.reason)
    if complete:
        grid.closable.set()
    return Success()


class Lapses:
    """Takes the places of workers that are gone.

    A place that is taken later lapses later. So a cycle in which no place lapses before some time need not be
    looked at until then: a look costs the more, the more workers the cycle has.

    Args:
        grid: the grid.
        is_known: whether the grid can run a cycle.
    """

    def __init__(self, grid: Grid, is_known: Callable[[Running], Awaitable[bool]]) -> None:
        self._grid = grid
        self._is_known = is_known
        self._next: dict[int, float] = {}

    async def release(self, running: Iterable[Running], now: float) -> float | None:
        """Takes the places that have lapsed; returns when the next one may.

        Args:
            running: the cycles that have not ended.
            now: the time.
        """
        timed = (cycle for cycle in running if cycle.phase is Phase.OPEN and cycle.paused_at is None)
        cycles = {cycle.id: cycle for cycle in timed}
        self._next = {id: self._next.get(id, now) for id in cycles}
        for id, time in self._next.items():
            if time <= now:
                try:
                    self._next[id] = await self._look(cycles[id], now)
                except Exception as error:  # noqa: BLE001  # the other cycles must go on
                    log_failure(logger, f"the places of cycle {id} cannot be looked at", error)
                    self._next[id] = now + _UNKNOWN_SECONDS
        return min(self._next.values(), default=None)

    async def _look(self, running: Running, now: float) -> float:
        """Takes what has lapsed in a cycle; returns before when nothing more can lapse there."""
        grid = self._grid
        if not await self._is_known(running):
            return now + _UNKNOWN_SECONDS
        process = (await grid.known.of_cycle(running)).process
        if process.server_config.secure_aggregation is not None:
            return now + _UNKNOWN_SECONDS  # its stages have deadlines of their own
        lapsed = gone_since(process.server_config, now)
        async with grid.store.reading() as db:
            taken = await participation.first_silent(db, running.id)
        if taken is None or taken > lapsed:
            return now + (now if taken is None else taken) - lapsed
        async with grid.store.writing() as db:
            released = await participation.release_silent(db, running.id, lapsed)
            complete = False
            if released is not None and released[0]:
                workers, cycle = released
                why = f"no report came within place_timeout, {process.server_config.place_timeout:g} s"
                gone = of_workers(process, Kind.GONE, why, cycle, workers)
                complete = await _close_if_complete(grid, db, process, cycle, gone)
        if released is not None:
            workers, cycle = released
            grid.metrics.vacated.labels("lapsed").inc(len(workers))
            logger.info("%d workers of cycle %d of '%s' are gone", len(workers), cycle.number, process.name)
        if complete:
            grid.closable.set()
        return now


async def _close_if_complete(grid: Grid, db: Db, process: Process, cycle: Cycle, left: Event) -> bool:
    """Lets a cycle close that waited only for workers that have left it; `left` tells that they have."""
    if is_secure(process, cycle):
        await record(grid, db, left)
        return await heed(grid, db, process, cycle.id)
    complete = round_of(grid.known.strategy(process)).stage_of(cycle).is_complete(cycle, grid.clock())
    happened = [left]
    if complete:
        await rounds.set_closing(db, cycle.id)
        happened.append(about(process, Kind.CLOSED, "no worker is at it any more", cycle=cycle))
    await record(grid, db, *happened)
    return complete
