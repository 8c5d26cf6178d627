"""How the reports of a cycle become an average, and the average a new model."""

import asyncio
import dataclasses
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from fedplan.errors import DamagedBlobError, DamagedReportsError, WireError
from fedplan.federation import (
    Average,
    Metrics,
    ServerState,
    Strategy,
    Sums,
    Task,
    Tensors,
    Update,
    next_model,
    round_of,
    with_folded,
    with_trained,
)
from fedplan.federation.scratch import Scratch
from fedplan.federation.stored import read_stored
from fedplan.federation.sums import Measurements, add_metrics
from fedplan.grid.grid import Grid
from fedplan.grid.records import Checkpoint, Cycle, CycleSummary, Phase, Process, Report, Running
from fedplan.grid.store import replicas, reports
from fedplan.wire import State, read_report

_LOST = (DamagedBlobError, FileNotFoundError, WireError)
"""What reading a stored report raises that is damaged, which one without a checksum may hide, or missing."""


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
    process = (await grid.known.hosted(running.process_id)).process
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
    reading = _Reading(grid, strategy, received)
    before = ServerState()
    if checkpoint.state is not None:
        kept = await grid.blobs.get(checkpoint.state)
        before = await asyncio.to_thread(ServerState.parse, kept)
    model = await grid.blobs.get(checkpoint.blob)
    beside = (await measured(grid, process, cycle_id, aside=True)).metrics if process.evaluates else {}
    if strategy.streams:  # last, for the sum cannot be used again after it
        averaged, metrics = await reading.streamed(cycle_id)
    elif strategy.combine is not None:
        averaged, metrics = await reading.combined(strategy.combine, before)
    else:
        averaged, metrics = await reading.folded(strategy.fold)
    data, state = await asyncio.to_thread(changed_model, strategy, model, averaged, before)
    summary = CycleSummary(averaged.reports, averaged.samples, add_metrics(metrics, beside))
    blob = await grid.blobs.put("models", data)
    try:
        return Averaged(blob, await grid.blobs.put("states", state) if state else None, summary)
    except Exception:
        await grid.blobs.delete(blob)  # no row will refer to it
        raise


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
        except _LOST:
            lost.append(report.blob)
        else:
            found.add(told)
    if lost:
        raise DamagedReportsError(tuple(lost))
    return CycleSummary(found.reports, float(found.samples), found.metrics)


class _Reading:
    """The reports of a cycle that closes, in the three ways in which strategies take them.

    Each way raises a DamagedReportsError that names all reports that are damaged or missing.
    """

    def __init__(self, grid: Grid, strategy: Strategy, received: Sequence[Report]) -> None:
        self._grid = grid
        self._strategy = strategy
        self._received = received
        self._layout = strategy.setting.changing_layout
        self._lost: list[str] = []

    async def streamed(self, cycle_id: int) -> tuple[Average, Metrics]:
        """Most updates are in this replica's sum or in parts of others'; the rest is read one at a time."""
        received = {report.blob for report in self._received}
        tally = await self._grid.tallies.take(cycle_id, self._strategy, received)
        await self._grid.parts.merge(cycle_id, self._layout, tally, received)
        for report in self._received:
            if report.blob not in tally.counted:
                update = await self._update(report)
                if update is not None:
                    await asyncio.to_thread(tally.add, self._strategy, report.blob, update)
        self._check()
        return await asyncio.to_thread(tally.sums.average, last=True), tally.sums.metrics

    async def combined(self, combine: Any, before: ServerState) -> tuple[Average, Metrics]:
        """The trained tensors of all reports go into one file, which the strategy reads by slices."""
        sums = self._strategy.nothing()
        setting = self._strategy.setting
        with Scratch(self._grid.settings.scratch, setting) as scratch:
            for report in self._received:
                update = await self._update(report)
                if update is not None:
                    await asyncio.to_thread(self._put, sums, scratch, update)
            self._check()
            vector = await asyncio.to_thread(combine, scratch, before)
        return await asyncio.to_thread(
            lambda: with_trained(sums.average(last=True), setting, vector)
        ), sums.metrics

    async def folded(self, fold: Any) -> tuple[Average, Metrics]:
        """The diffs of all reports, one after the other."""
        sums = self._strategy.nothing()
        loop = asyncio.get_running_loop()

        def averaged() -> Average:
            diff = fold(diffs())
            return with_folded(sums.average(last=True), diff)

        def diffs() -> Iterator[Tensors]:
            for report in self._received:
                update = asyncio.run_coroutine_threadsafe(self._update(report), loop).result()
                if update is not None:
                    self._strategy.add(sums, update)
                    yield update.tensors
            self._check()

        # a thread of its own: those that all share could each wait here for one that reads a blob
        with ThreadPoolExecutor(1, "fedplan-fold") as own:
            return await loop.run_in_executor(own, averaged), sums.metrics

    def _put(self, sums: Sums, scratch: Scratch, update: Update) -> None:
        contribution = self._strategy.contribution(update)
        sums.add(update, contribution)
        scratch.add(update.tensors, contribution.factor)

    async def _update(self, report: Report) -> Update | None:
        """A report's update; None when what is stored of it is damaged or missing, which is noted."""
        try:
            data = await self._grid.blobs.get(report.blob)
            return await asyncio.to_thread(read_stored, data, self._layout, report.staleness)
        except _LOST:
            self._lost.append(report.blob)
            return None

    def _check(self) -> None:
        if self._lost:
            raise DamagedReportsError(tuple(self._lost))


def changed_model(
    strategy: Strategy, model: bytes, averaged: Average, before: ServerState
) -> tuple[bytes, bytes]:
    """The State of what changes of the model, and what the strategy remembers, after the cycle."""
    changed, after = next_model(strategy, State.parse(model).tensors, averaged, before)
    written = after.serialize() if after.tensors else b""
    return State.of(changed, strategy.setting.changing).serialize(), written
