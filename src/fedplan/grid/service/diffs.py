"""Where workers' diffs are kept, and until when."""

import logging

from fedplan.grid.grid import Grid
from fedplan.grid.store import rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


def group_of(grid: Grid, cycle_id: int) -> str:
    """The group of blobs that a cycle's diffs are in. Grids may share a blob store: their groups differ."""
    return f"{_all(grid)}/{cycle_id}"


async def forget(grid: Grid, cycle_id: int) -> None:
    """Deletes the diffs of a cycle that has ended, unless they are to be kept."""
    if grid.settings.keep_diffs:
        return
    try:
        await grid.blobs.drop(group_of(grid, cycle_id))
    except Exception as error:  # noqa: BLE001  # the cycle has ended all the same
        log_failure(
            logger, f"the diffs of cycle {cycle_id} are not deleted; the next start tries again", error
        )


async def forget_left(grid: Grid) -> None:
    """Deletes what a killed process left: diffs of cycles that have ended."""
    found = await grid.blobs.groups(_all(grid))
    async with grid.store.reading() as db:
        unfinished = set(await rounds.unfinished(db))
    for cycle_id in {int(name) for name in found if name.isdecimal()} - unfinished:
        await forget(grid, cycle_id)


def _all(grid: Grid) -> str:
    return f"diffs/{grid.store.id}"
