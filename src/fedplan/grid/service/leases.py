"""How one replica is the one that closes a cycle, without any clock that others have to share.

A lease is who has it and a counter, which is raised when it is taken and each time it is renewed. A replica
that has seen the same owner and counter for `lease_seconds` of its own monotonic clock takes the lease over.
What comes of a cycle is written only if owner and counter are still those of who writes it.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from fedplan.grid.background.watch import Watch
from fedplan.grid.grid import Grid
from fedplan.grid.records import Lease
from fedplan.grid.store import rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


class Leases:
    """Which leases are free, as far as this replica knows.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._counters = Watch[int](grid.settings.lease_seconds, grid.clock.monotonic)

    def free(self, seen: Sequence[Lease]) -> list[Lease]:
        """Those that nobody has, or that who has them did not renew; each look gives all that there are.

        Its own may be among them, as after a failure: they are to be tried again as late as another replica
        would.
        """
        still = self._counters.still({lease.cycle_id: lease for lease in seen})
        return [lease for lease in seen if lease.owner is None or lease.cycle_id in still]

    def lost_sight(self) -> None:
        """The database was away, so nobody could renew a lease."""
        self._counters.forget()


class Held:
    """A lease that this replica has, as it was when it was last renewed.

    Args:
        grid: the grid.
        lease: the lease.
    """

    def __init__(self, grid: Grid, lease: Lease) -> None:
        self._grid = grid
        self.lease = lease

    @contextlib.asynccontextmanager
    async def kept(self) -> AsyncIterator[None]:
        """Renews the lease for as long as the block takes."""
        done = asyncio.Event()
        renewing = asyncio.create_task(self._renew_until(done))
        try:
            yield
        finally:
            done.set()  # not cancelled: that could cut a transaction short
            await renewing

    async def _renew_until(self, done: asyncio.Event) -> None:
        while not done.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._grid.settings.lease_seconds / 3):
                    await done.wait()
                    return
            try:
                async with self._grid.store.writing() as db:
                    renewed = await rounds.take_lease(db, self.lease, self._grid.replica)
            except Exception as error:  # noqa: BLE001  # the database may be back before another replica is
                log_failure(logger, "a lease could not be renewed; it is tried again", error)
                continue
            if renewed is None:
                return  # another replica has it, and what is made here will not be written
            self.lease = renewed
