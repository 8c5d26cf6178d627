"""How the replicas of a grid know of each other, and of the time."""

import logging
import math

from fedplan.grid.background.watch import Watch
from fedplan.grid.grid import Grid
from fedplan.grid.store import replicas
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


class Presence:
    """The heartbeat of a replica: it tells the others that it lives, and sees which of them do.

    One that is killed is taken for alive until its counter has stood still for as long as it would hold a
    lease.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._next = -math.inf
        self._counters = Watch[str](grid.settings.lease_seconds, grid.clock.monotonic)

    async def tell(self) -> None:
        """Tells and sees it, as often as is needed."""
        grid, now = self._grid, self._grid.clock.monotonic()
        if now >= self._next:
            await grid.clock.check()
            async with grid.store.writing() as db:
                await replicas.announce(db, grid.replica)
            self._next = now + grid.settings.lease_seconds / 3
        async with grid.store.reading() as db:
            counters = await replicas.counters(db)
        gone = self._counters.still(counters) - {grid.replica}
        if gone:
            async with grid.store.writing() as db:
                await replicas.forget(db, {name: counters[name] for name in gone})
        grid.others.clear()
        grid.others.update(counters.keys() - gone - {grid.replica})

    def lost_sight(self) -> None:
        """The database was away, so the others could not tell that they live."""
        self._counters.forget()

    async def end(self) -> None:
        """Tells that this one ends; the others need not wait until it is missed."""
        try:
            async with self._grid.store.writing() as db:
                await replicas.leave(db, self._grid.replica)
        except Exception as error:  # noqa: BLE001  # they will know all the same
            log_failure(logger, "the other replicas are not told that this one ends", error)
