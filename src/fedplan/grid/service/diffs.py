"""Where workers' diffs and the sums of them are kept, and until when."""

import logging

from fedplan.errors import NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Process
from fedplan.grid.store import keeping, reports, rounds
from fedplan.grid.web.replies import log_failure

logger = logging.getLogger(__name__)


def group_of(grid: Grid, cycle_id: int) -> str:
    """The group of blobs that a cycle's diffs are in. Grids may share a blob store: their groups differ."""
    return f"{_all(grid)}/{cycle_id}"


def cycles_kept(grid: Grid, process: Process) -> int | None:
    """Of how many ended cycles of a model the diffs are kept; None of all.

    With privacy none is; nor are masked reports, of which no sum can be made again.
    """
    config = process.server_config
    if config.privacy is not None or config.secure_aggregation is not None:
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
        unfinished = set(await rounds.unfinished(db))
        process_ids = await keeping.processes_of(db, sorted(found - unfinished))
    for cycle_id in sorted(found - unfinished):
        process = await process_of(grid, process_ids.get(cycle_id))
        if process is not None and cycles_kept(grid, process) == 0:
            async with grid.store.writing() as db:  # they may have been kept before, and stand in rows
                await reports.forget_diffs(db, cycle_id)
        await forget(grid, cycle_id, process)


async def process_of(grid: Grid, id: int | None) -> Process | None:
    """An FL process, as its owner has it kept now; None when there is none, or none any more."""
    try:
        return None if id is None else await grid.known.newest(id)
    except NotFoundError:  # deleted in between
        return None


def _all(grid: Grid) -> str:
    return f"diffs/{grid.store.id}"
