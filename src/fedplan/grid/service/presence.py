"""How the replicas of a grid know of each other."""

import logging

from fedplan.grid.grid import Grid
from fedplan.grid.store import replicas
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


class Presence:
    """Tells the other replicas that this one lives, and sees which others do.

    One that is killed is taken for alive until its time is over: as long as it would hold a lease.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._next = 0.0

    async def tell(self, now: float) -> None:
        """Tells and sees it, as often as is needed."""
        seconds = self._grid.settings.lease_seconds
        if not self._next - seconds < now < self._next:  # or the clock was set back
            async with self._grid.store.writing() as db:
                await replicas.announce(db, self._grid.replica, now, now + seconds)
            self._next = now + seconds / 3
        async with self._grid.store.reading() as db:
            living = await replicas.living(db, now)
        self._grid.others.clear()
        self._grid.others.update(living - {self._grid.replica})

    async def end(self) -> None:
        """Tells that this one ends; the others need not wait until its time is over."""
        try:
            async with self._grid.store.writing() as db:
                await replicas.leave(db, self._grid.replica)
        except Exception as error:  # noqa: BLE001  # they will know all the same
            log_failure(logger, "the other replicas are not told that this one ends", error)
