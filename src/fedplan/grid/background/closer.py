"""The background task that closes cycles: after their last report, by time, and after a restart.

It also takes the places of workers that are gone."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TypeVar

from fedplan.errors import ConfigError
from fedplan.grid.averaging.average import catch_up, publish
from fedplan.grid.grid import Grid
from fedplan.grid.records import Lease, Running
from fedplan.grid.service.closing import attend
from fedplan.grid.service.diffs import forget_left
from fedplan.grid.service.leases import Leases
from fedplan.grid.service.presence import Presence
from fedplan.grid.service.removing import delete_unused
from fedplan.grid.service.vacating import Lapses
from fedplan.grid.store import rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)

_T = TypeVar("_T")
_SHORTEST_NAP = 0.01


class Closer:
    """Looks for cycles to close and closes each in a task of its own, so that a large one delays no other.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._tasks: set[asyncio.Task[object]] = set()
        self._closing: set[int] = set()
        self._lapses = Lapses(grid, self._is_known)
        self._leases = Leases(grid)
        self._presence = Presence(grid)
        self._told: set[int] = set()  # FL processes of which the log has said that they cannot be run here

    async def run(self) -> None:
        """Works until it is cancelled; then lets what it has begun come to its end."""
        self._begin(forget_left(self._grid), "deleting what cycles have left that have ended")
        self._begin(delete_unused(self._grid), "deleting what deleted models have left")
        try:
            while True:
                looking = self._begin(self._look(), "looking for cycles to close")
                await asyncio.wait([looking])
                await self._nap(looking)
        finally:
            while self._tasks:  # a look that was under way may begin more
                await asyncio.wait(self._tasks)
            await self._presence.end()

    async def _look(self) -> float:
        """Starts closing what is due; returns after how many seconds to look again."""
        self._grid.closable.clear()
        try:
            await self._presence.tell()
            now = self._grid.clock()
            async with self._grid.store.reading() as db:
                due = await rounds.due(db, now)
                deadline = await rounds.next_deadline(db, now)
                unfinished = await rounds.running(db)
                ended = await rounds.ended(db, self._grid.tallies.cycles())
        except Exception:
            self._presence.lost_sight()
            self._leases.lost_sight()
            raise
        for cycle_id in self._grid.faults.keys() - {cycle.id for cycle in unfinished}:
            del self._grid.faults[cycle_id]
        self._grid.tallies.forget(ended)
        await self._grid.parts.forget_own(ended)
        free = {lease.cycle_id: lease for lease in self._leases.free(due)}
        to_close = free.keys() - self._closing
        for cycle in unfinished:  # most have nothing to do, and their models need not be known
            if cycle.id in to_close or cycle.reported:
                try:
                    await self._attend(cycle, free[cycle.id] if cycle.id in to_close else None)
                except Exception as error:  # noqa: BLE001  # the other cycles must go on
                    log_failure(logger, f"cycle {cycle.id} cannot be looked after; it is tried again", error)
        lapse = await self._lapses.release(unfinished, now)
        poll = self._grid.settings.poll_seconds
        waits = [time - now for time in (deadline, lapse) if time is not None]
        return min(poll, max(min(waits, default=poll), _SHORTEST_NAP))

    async def _attend(self, cycle: Running, due: Lease | None) -> None:
        """Starts closing a cycle that is due, and adds up what has come to one that is open."""
        if not await self._is_known(cycle):
            return
        if due is not None:
            self._closing.add(cycle.id)
            self._begin(self._close(due), f"closing cycle {cycle.id}")
        if cycle.reported and not await self._is_summed_elsewhere(cycle):
            await catch_up(self._grid, cycle)
            if self._grid.others:
                publish(self._grid, cycle)

    async def _is_summed_elsewhere(self, cycle: Running) -> bool:
        """Whether its reports are under masks, and are added up when all have come."""
        process = (await self._grid.known.of_cycle(cycle)).process
        return process.server_config.secure_aggregation is not None

    async def _is_known(self, cycle: Running) -> bool:
        """Whether this grid can run a cycle; one with other plugins may have hosted its model."""
        process = (await self._grid.known.of_cycle(cycle)).process
        try:
            self._grid.known.strategy(process)
        except ConfigError as error:
            if process.id not in self._told:
                self._told.add(process.id)
                logger.error("'%s' version '%s' stands still: %s", process.name, process.version, error)
            return False
        return True

    async def _close(self, lease: Lease) -> None:
        try:
            await attend(self._grid, lease)
        finally:
            self._closing.discard(lease.cycle_id)
        self._grid.closable.set()  # the next cycle may have a deadline to watch

    async def _nap(self, looking: asyncio.Task[float]) -> None:
        seconds = self._grid.settings.poll_seconds if looking.exception() else looking.result()
        try:
            async with asyncio.timeout(seconds):
                await self._grid.closable.wait()
        except TimeoutError:
            return

    def _begin(self, work: Coroutine[object, object, _T], name: str) -> asyncio.Task[_T]:
        """A task whose failure is logged by its name: nobody waits for it, and the others must go on."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log_failure(logger, f"{task.get_name()} failed; it is tried again", error)
