"""How the reports of a cycle become an average, and the average a new model."""

import asyncio
import dataclasses
from collections.abc import Collection

from fedplan.errors import DamagedReportsError
from fedplan.federation import Strategy, Task, Update, round_of
from fedplan.federation.sums import Measurements, add_metrics
from fedplan.grid.averaging.reading import LOST, Reading, changed, start_of
from fedplan.grid.averaging.tally import Tally
from fedplan.grid.grid import Grid
from fedplan.grid.records import Checkpoint, Cycle, CycleSummary, Phase, Process, Report, Running
from fedplan.grid.store import replicas, reports
from fedplan.wire import read_report


@dataclasses.dataclass(frozen=True, slots=True)
class Averaged:
    """What an average made of a model.

    Attributes:
        blob: key of the new model's State.
        state: key of what the strategy remembers beside it; None when that is nothing.
        summary: what else is known of the cycle.
    """

    blob: str
    state: str | None
    summary: CycleSummary


def count(grid: Grid, strategy: Strategy, cycle: Cycle, report: Report, update: Update) -> None:
    """Adds a report to its cycle's sum, if the model's strategy adds up; the cycle is as it is with it."""
    if not strategy.streams:
        return
    grid.tallies.add(cycle.id, strategy, report, update)
    to_come = round_of(strategy).stage_of(cycle).lacking(cycle)
    if grid.others and to_come != 0:  # with the last report this replica closes the cycle itself
        grid.parts.offer(cycle.id, to_come)


async def catch_up(grid: Grid, running: Running) -> None:
    """Adds to an open cycle's sum what it lacks: reports that no living replica adds up, but this one.

    Those are reports from before a start, and of replicas that are gone. Each is taken over by one replica,
    so that what the replicas add up stays disjoint.
    """
    if running.phase is not Phase.OPEN or running.task is Task.EVALUATION:
        return
    process = (await grid.known.of_cycle(running)).process
    strategy = grid.known.strategy(process)
    layout = process.changing_layout
    if not strategy.streams or not grid.tallies.lacks(running.id, layout, running.reported):
        return
    async with grid.store.reading() as db:
        of_each = await replicas.reports_of_each(db, running.id)
    living = {grid.replica, *grid.others}
    if not of_each.keys() <= living:
        async with grid.store.writing() as db:
            await replicas.adopt(db, running.id, grid.replica, living)
    elif not grid.tallies.lacks(running.id, layout, of_each.get(grid.replica, 0)):
        return
    async with grid.store.reading() as db:
        own = await reports.of_cycle(db, running.id, replica=grid.replica)
    for report in own:
        grid.tallies.add(running.id, strategy, report)


def publish(grid: Grid, running: Running) -> None:
    """Publishes this replica's part of a cycle that is closing, or that time is about to close."""
    soon = grid.clock() + 2 * grid.settings.poll_seconds
    if running.phase is Phase.CLOSING or (running.deadline is not None and running.deadline <= soon):
        grid.parts.offer(running.id, 0)


async def average(grid: Grid, process: Process, cycle_id: int, checkpoint: Checkpoint) -> Averaged:
    """Averages a cycle's reports, and stores the changed model. What is frozen takes no part in it.

    Raises:
        AggregationError: the average cannot change the model.
        DamagedReportsError: reports are damaged or missing.
        DamagedBlobError, FileNotFoundError: the model, what the strategy remembers or its Plan is.
    """
    async with grid.store.reading() as db:
        received = await reports.of_cycle(db, cycle_id)
    strategy = grid.known.strategy(process)
    reading = Reading(grid.blobs, strategy, received, grid.settings.scratch)
    model, before = await start_of(grid.blobs, checkpoint)
    beside = (await measured(grid, process, cycle_id, aside=True)).metrics if process.evaluates else {}
    if strategy.streams:  # last, for the sum cannot be used again after it
        head_start = await _head_start(grid, strategy, cycle_id, {report.blob for report in received})
        averaged, metrics = await reading.streamed(head_start)
    else:
        averaged, metrics = await reading.gathered(before)
    data, state = await asyncio.to_thread(changed, strategy, model, averaged, before)
    summary = CycleSummary(averaged.reports, averaged.samples, add_metrics(metrics, beside))
    return await keep_average(grid, data, state, summary)


async def keep_average(grid: Grid, model: bytes, state: bytes | None, summary: CycleSummary) -> Averaged:
    """Stores what an average made of a model: both blobs, or none of them.

    Args:
        grid: the grid.
        model: the new model's State.
        state: what the strategy remembers beside it, if anything.
        summary: what else is known of the cycle.
    """
    blob = await grid.keep("models", model)
    try:
        return Averaged(blob, await grid.keep("states", state) if state else None, summary)
    except Exception:
        await grid.blobs.delete(blob)  # no row will refer to it
        raise


async def _head_start(grid: Grid, strategy: Strategy, cycle_id: int, received: Collection[str]) -> Tally:
    """What this replica and others have added up already of a cycle's reports."""
    tally = await grid.tallies.take(cycle_id, strategy, received)
    await grid.parts.merge(cycle_id, strategy.setting.changing_layout, tally, received)
    return tally


async def measured(grid: Grid, process: Process, cycle_id: int, *, aside: bool = False) -> CycleSummary:
    """What the workers of a cycle of evaluation measured, or those set aside for it in one of training.

    Raises:
        DamagedReportsError: reports are damaged or missing.
    """
    async with grid.store.reading() as db:
        received = await reports.of_cycle(db, cycle_id, aside=aside)
    setting = process.setting
    found, lost = Measurements(setting.weighting, setting.metric_names), list[str]()
    for report in received:
        try:
            _, told = read_report(await grid.blobs.get(report.blob))
        except LOST:
            lost.append(report.blob)
        else:
            found.add(told)
    if lost:
        raise DamagedReportsError(tuple(lost))
    return CycleSummary(found.reports, float(found.samples), found.metrics)
