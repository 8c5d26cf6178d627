"""What holds for every report, however it is added up: few are taken at once, and refusals are counted."""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator, Iterator

from fedplan.errors import GridError, OverloadedError
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import Cycle, Process
from fedplan.grid.service.events import about

logger = logging.getLogger(__name__)

PATIENCE = 8.0
"""Seconds that a report waits at most; clients give up after ten."""

_WHAT = {"what": "a report"}


@dataclasses.dataclass(slots=True)
class Given:
    """Where a worker that reports has its place, once that is known."""

    process: Process | None = None
    cycle: Cycle | None = None


@contextlib.asynccontextmanager
async def receiving(grid: Grid, worker_id: str) -> AsyncIterator[Given]:
    """Waits for one of the few places for reports that are being taken; counts it as accepted, or as refused.

    Raises:
        OverloadedError: there is none for long.
    """
    with refusals_counted(grid, worker_id) as given:
        async with _turn(grid):
            yield given
    grid.metrics.reports.labels("accepted").inc()


@contextlib.contextmanager
def refusals_counted(grid: Grid, worker_id: str) -> Iterator[Given]:
    """Counts a report that is refused, with the event and in the log."""
    given = Given()
    try:
        yield given
    except GridError as error:
        grid.metrics.reports.labels("refused").inc()
        logger.info("a report was refused: %s", error)
        refused = Event(Kind.REFUSED, str(error), details=_WHAT)
        if given.process is not None:
            refused = about(
                given.process, Kind.REFUSED, str(error), cycle=given.cycle, worker_id=worker_id, **_WHAT
            )
        grid.bundles.add(refused, type(error).__name__)
        raise


@contextlib.asynccontextmanager
async def _turn(grid: Grid) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(PATIENCE):
            await grid.reporting.acquire()
    except TimeoutError:
        raise OverloadedError("the grid has more reports than it can take; try again later") from None
    try:
        yield
    finally:
        grid.reporting.release()
