"""Where workers' diffs and the sums of them are kept, and until when."""

import logging

from fedplan.grid.grid import Grid
from fedplan.grid.store import rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


def group_of(grid: Grid, cycle_id: int) -> str:
    """The group of blobs that a cycle's diffs are in. Grids may share a blob store: their groups differ."""
    return f"{_all(grid)}/{cycle_id}"


async def forget(grid: Grid, cycle_id: int, *, kept: bool | None = None) -> None:
    """Deletes the sums of a cycle that has ended, and its diffs, unless they are kept.

    Args:
        grid: the grid.
        cycle_id: the cycle.
        kept: whether its diffs are; by default as the settings say.
    """
    try:
        await grid.parts.forget([cycle_id])
        if not (grid.settings.keep_diffs if kept is None else kept):
            await grid.blobs.drop(group_of(grid, cycle_id))
    except Exception as error:  # noqa: BLE001  # the cycle has ended all the same
        log_failure(
            logger, f"the diffs of cycle {cycle_id} are not deleted; the next start tries again", error
        )


async def forget_left(grid: Grid) -> None:
    """Deletes what a killed process left: diffs and sums of cycles that have ended."""
    found = {int(name) for name in await grid.blobs.groups(_all(grid)) if name.isdecimal()}
    found |= await grid.parts.cycles()
    async with grid.store.reading() as db:
        unfinished = set(await rounds.unfinished(db))
        existing = set(await rounds.existing(db, found))
    for cycle_id in found - unfinished:
        await forget(grid, cycle_id, kept=grid.settings.keep_diffs and cycle_id in existing)


def _all(grid: Grid) -> str:
    return f"diffs/{grid.store.id}"
