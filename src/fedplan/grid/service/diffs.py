"""Where workers' diffs and the sums of them are kept, and until when."""

import logging

from fedplan.grid.grid import Grid
from fedplan.grid.records import Process
from fedplan.grid.store import keeping, reports, rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


def group_of(grid: Grid, cycle_id: int) -> str:
    """The group of blobs that a cycle's diffs are in. Grids may share a blob store: their groups differ."""
    return f"{_all(grid)}/{cycle_id}"


def cycles_kept(grid: Grid, process: Process) -> int | None:
    """Of how many ended cycles of a model the diffs are kept; None of all. Masked reports never are."""
    if process.server_config.secure_aggregation is not None:
        return 0
    kept = process.server_config.keep_diffs
    if kept is None:
        kept = grid.settings.keep_diffs
    return None if kept is True else int(kept)


async def forget(grid: Grid, cycle_id: int, process: Process | None) -> None:
    """Deletes the sums of a cycle that has ended, and its diffs, unless they are to be kept.

    Args:
        grid: the grid.
        cycle_id: the cycle.
        process: its FL process; None when there is none any more.
    """
    try:
        await grid.parts.forget([cycle_id])
        if process is None or cycles_kept(grid, process) == 0:
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
        left = sorted(found - set(await rounds.unfinished(db)))
        process_ids = await keeping.processes_of(db, left)
    for cycle_id in left:
        process = None
        if cycle_id in process_ids:
            process = (await grid.known.hosted(process_ids[cycle_id])).process
            if cycles_kept(grid, process) == 0:  # they may have been kept before, and stand in rows
                async with grid.store.writing() as db:
                    await reports.forget_diffs(db, cycle_id)
        await forget(grid, cycle_id, process)


def _all(grid: Grid) -> str:
    return f"diffs/{grid.store.id}"
