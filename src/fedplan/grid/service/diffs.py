"""Where workers' diffs and the sums of them are kept, and until when."""

import logging

from fedplan.grid.grid import Grid
from fedplan.grid.store import participation, rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


def group_of(grid: Grid, cycle_id: int) -> str:
    """The group of blobs that a cycle's diffs are in. Grids may share a blob store: their groups differ."""
    return f"{_all(grid)}/{cycle_id}"


async def forget(grid: Grid, cycle_id: int) -> None:
    """Deletes the sums of a cycle that has ended, and its diffs, unless they are to be kept."""
    try:
        await grid.parts.forget([cycle_id])
        if not await _are_kept(grid, cycle_id):
            await grid.blobs.drop(group_of(grid, cycle_id))
    except Exception as error:  # noqa: BLE001  # the cycle has ended all the same
        log_failure(
            logger, f"the diffs of cycle {cycle_id} are not deleted; the next start tries again", error
        )


async def _are_kept(grid: Grid, cycle_id: int) -> bool:
    """Whether the diffs of a cycle that has ended stay: never those of a model with privacy."""
    if not grid.settings.keep_diffs:
        return False
    async with grid.store.reading() as db:
        cycle = await participation.get_cycle(db, cycle_id)
    return (await grid.known.hosted(cycle.process_id)).process.server_config.privacy is None


async def forget_left(grid: Grid) -> None:
    """Deletes what a killed process left: diffs and sums of cycles that have ended."""
    found = {int(name) for name in await grid.blobs.groups(_all(grid)) if name.isdecimal()}
    found |= await grid.parts.cycles()
    async with grid.store.reading() as db:
        unfinished = set(await rounds.unfinished(db))
    for cycle_id in found - unfinished:
        await forget(grid, cycle_id)


def _all(grid: Grid) -> str:
    return f"diffs/{grid.store.id}"
