"""The background task that deletes what nothing needs any more: one replica does it for all, now and then."""

import asyncio
import contextlib
import logging

from fedplan.grid.background.watch import Watch
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.service.diffs import forget_left
from fedplan.grid.service.events import record
from fedplan.grid.service.retention import retain
from fedplan.grid.store import chores, keeping
from fedplan.grid.store.chores import SWEEP, Chore
from fedplan.grid.store.naming import named
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)

_KINDS = ("models", "states", "plans", "protocols", "probes")
"""Kinds of blobs that are stored one by one; diffs and sums go with their cycles."""

_AT_ONCE = 500


class _StoppedError(Exception):
    """This replica is to end, or another one has taken over."""


class Sweeper:
    """Looks whether it is time, and whether another replica is at it.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._counters = Watch[str](grid.settings.lease_seconds, grid.clock.monotonic)
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Works until it is stopped. It begins a while after the start, when a grid has more urgent work."""
        settings = self._grid.settings
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(settings.sweep_seconds, settings.lease_seconds)):
                    await self._stopping.wait()
                    return
            try:
                await self.look()
            except Exception as error:  # noqa: BLE001  # the store may be away; the next look tries again
                self._counters.forget()
                log_failure(logger, "what is not needed any more could not be deleted", error)

    def stop(self) -> None:
        """Lets it end after what it is at. It is not cancelled: that could cut a transaction short."""
        self._stopping.set()

    async def look(self) -> None:
        """Sweeps, if it is time and no other replica does."""
        grid = self._grid
        async with grid.store.reading() as db:
            seen = await chores.read(db, SWEEP)
        still = self._counters.still({SWEEP: (seen.owner, seen.counter)})
        if grid.clock() < seen.due_at or (seen.owner is not None and SWEEP not in still):
            return
        async with grid.store.writing() as db:
            held = await chores.take(db, seen, grid.replica)
        if held is not None:
            await _Sweep(grid, held, self._stopping).run()


class _Sweep:
    """One sweep, and the lease of the replica that does it."""

    def __init__(self, grid: Grid, held: Chore, stopping: asyncio.Event) -> None:
        self._grid = grid
        self._stopping = stopping
        self._held = held
        self._renewed = grid.clock.monotonic()

    async def run(self) -> None:
        grid, due_at = self._grid, self._held.due_at
        try:
            await forget_left(grid)
            await self._retain()
            await self._collect()
            due_at = grid.clock() + grid.settings.sweep_seconds
        except _StoppedError:
            return
        finally:
            async with grid.store.writing() as db:
                await chores.drop(db, self._held, due_at)  # changes nothing where it was lost

    async def _retain(self) -> None:
        async with self._grid.store.reading() as db:
            ids = await keeping.process_ids(db)
        for id in ids:
            await self._keep_lease()
            try:
                await retain(self._grid, await self._grid.known.newest(id))
            except Exception as error:  # noqa: BLE001  # the other models must go on
                log_failure(logger, f"of model {id} not all is deleted that is not kept", error)

    async def _collect(self) -> None:
        """Deletes blobs of this grid that no row names, and that are too old for a row to be on its way."""
        grid = self._grid
        before = grid.clock.wall() - grid.settings.orphan_seconds
        for kind in _KINDS:
            old = [
                blob.key
                async for blob in grid.blobs.listed(kind)
                if blob.key.startswith(f"{kind}/{grid.store.id}-") and blob.modified < before
            ]
            for start in range(0, len(old), _AT_ONCE):
                await self._keep_lease()
                some = old[start : start + _AT_ONCE]
                async with grid.store.reading(long=True) as db:
                    needed = await named(db, some)
                left = [key for key in some if key not in needed]
                await grid.blobs.delete(*left)
                if left:
                    grid.metrics.deleted.labels("orphans").inc(len(left))
                    await self._tell(kind, len(left))
                    logger.info("%d blobs among the %s are deleted, which nothing names", len(left), kind)

    async def _tell(self, kind: str, count: int) -> None:
        """Writes the event of blobs that were deleted."""
        happened = Event(Kind.DISCARDED, "no row names them", details={"what": kind, "times": count})
        async with self._grid.store.writing() as db:
            await record(self._grid, db, happened)

    async def _keep_lease(self) -> None:
        if self._stopping.is_set():
            raise _StoppedError
        now = self._grid.clock.monotonic()
        if now - self._renewed < self._grid.settings.lease_seconds / 3:
            return
        async with self._grid.store.writing() as db:
            held = await chores.take(db, self._held, self._grid.replica)
        if held is None:
            raise _StoppedError
        self._held, self._renewed = held, now
