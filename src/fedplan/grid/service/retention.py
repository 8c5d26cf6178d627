"""What of a model is deleted as it trains: checkpoints and diffs that its owner does not want to keep."""

import logging
from collections.abc import Sequence

from fedplan.errors import ConfigError
from fedplan.federation.goals import best_of
from fedplan.federation.retention import dispensable
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import MOST_TOLD, Event, Kind
from fedplan.grid.records import Checkpoint, Process
from fedplan.grid.service import diffs
from fedplan.grid.service.events import about, record
from fedplan.grid.store import catalogue, keeping, participation, reports
from fedplan.text import counted

logger = logging.getLogger(__name__)


async def retain(grid: Grid, process: Process) -> None:
    """Deletes what the server_config of a model does not keep, and what nothing needs."""
    await _forget_checkpoints(grid, process)
    await _forget_diffs(grid, process)


async def _forget_checkpoints(grid: Grid, process: Process) -> None:
    kept = process.server_config.kept
    if kept is None:
        return
    async with grid.store.reading() as db:
        newest = await catalogue.find_checkpoint(db, process.id, None)
    if newest is None or newest.number <= kept.last:
        return
    # the metric of each older one is known: it was stored together with the checkpoint after it
    best = await _best(grid, process)
    late = _late(grid, process)
    today = grid.clock.wall()
    async with grid.store.writing() as db:
        await participation.latest_cycle(db, process.id, lock=True)  # none begins from one of them meanwhile
        there = await keeping.checkpoints_there(db, process.id)
        begun = await keeping.begun_from(db, process.id)
        needed = {one.number for one in there if one.id in begun or one.number >= newest.number - late}
        needed |= set() if best is None else {best}
        numbers = dispensable(kept, [one.number for one in there], needed)
        gone = [one for one in there if one.number in set(numbers)]
        await keeping.note_deleted(db, [one.id for one in gone], today)
        if gone:
            await record(grid, db, _discarded_checkpoints(process, gone))
    if gone:
        await _delete(grid, process, gone, [one for one in there if one not in gone])


def _discarded_checkpoints(process: Process, gone: Sequence[Checkpoint]) -> Event:
    return about(
        process,
        Kind.DISCARDED,
        "its 'keep_checkpoints' does not keep them, and nothing needs them",
        what="checkpoints",
        times=len(gone),
        checkpoints=[one.number for one in gone[:MOST_TOLD]],
    )


async def _best(grid: Grid, process: Process) -> int | None:
    goal = process.server_config.best
    if goal is None:
        return None
    return best_of(goal, await grid.known.metric_by_checkpoint(process.id, goal.metric))


def _late(grid: Grid, process: Process) -> int:
    """How many checkpoints before the newest one a report may be that is still taken."""
    try:
        return grid.known.strategy(process).staleness or 0
    except ConfigError:  # this grid does not know it, and closes no cycle of the model
        return 0


async def _delete(
    grid: Grid, process: Process, gone: Sequence[Checkpoint], left: Sequence[Checkpoint]
) -> None:
    await grid.blobs.delete(*sorted(_keys(gone) - _keys(left)))
    grid.metrics.deleted.labels("checkpoints").inc(len(gone))
    logger.info(
        "checkpoints %s of '%s' version '%s' are deleted, which are not to be kept",
        ", ".join(str(one.number) for one in gone),
        process.name,
        process.version,
    )


def _keys(some: Sequence[Checkpoint]) -> set[str]:
    return {key for one in some for key in (one.blob, one.state) if key is not None}


async def _forget_diffs(grid: Grid, process: Process) -> None:
    count = diffs.cycles_kept(grid, process)
    if not count:
        return  # all are kept, or none: then those of a cycle are deleted when it ends
    async with grid.store.reading(long=True) as db:
        older = await keeping.cycles_with_diffs(db, process.id, beyond=count)
    for cycle_id in older:
        async with grid.store.writing() as db:
            cycle = await participation.get_cycle(db, cycle_id)
            await reports.forget_diffs(db, cycle_id)
            why = f"reports are kept of the {counted(count, 'latest cycle')}"
            await record(grid, db, about(process, Kind.DISCARDED, why, cycle=cycle, what="reports"))
        await grid.blobs.drop(diffs.group_of(grid, cycle_id))
