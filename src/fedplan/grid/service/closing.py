"""How a cycle ends: its diffs are averaged, the model changes, the next cycle opens.

Several replicas may share the store. The one that holds a cycle's lease closes it; it renews the lease while
it averages, and writes the result only if the lease is still its own.
"""

import asyncio
import contextlib
import dataclasses
import logging
from collections.abc import AsyncIterator

from fedplan.errors import AggregationError, PlanError, WireError
from fedplan.federation import (
    Accumulated,
    AveragingRule,
    Layout,
    Tensors,
    averaging_plan,
    for_part,
    mean,
    plain,
)
from fedplan.grid import cycles
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Phase, Process, Running
from fedplan.grid.service import diffs
from fedplan.grid.store import catalogue, participation, rounds
from fedplan.grid.store.connection import Db
from fedplan.grid.tally import Tally, read_stored
from fedplan.plan import Plan
from fedplan.wire import State
from fedplan.wire.state import Places

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cycle: a new model's blob, or the reason why there is none."""

    blob: str | None = None
    failure: str | None = None


async def attend(grid: Grid, cycle_id: int) -> None:
    """Closes a cycle that waits to be closed, or extends one whose time passed with too few reports.

    Does nothing when another replica is at it.
    """
    claimed = await _claim(grid, cycle_id)
    if claimed is None:
        return
    process, cycle = claimed
    with grid.metrics.closing_seconds.time():
        async with _lease_kept(grid, cycle_id):
            outcome = await _average(grid, process, cycle)
    await _end(grid, process, cycle, outcome)


async def _claim(grid: Grid, cycle_id: int) -> tuple[Process, Cycle] | None:
    """Takes the lease of a cycle that is to be averaged now, and stops it from taking reports."""
    now = grid.clock()
    until = now + grid.settings.lease_seconds
    async with grid.store.writing() as db:
        if not await rounds.take_lease(db, cycle_id, grid.replica, now, until):
            return None
        cycle = await participation.get_cycle(db, cycle_id, lock=True)
        process = await catalogue.get_process(db, cycle.process_id)
        config = process.server_config
        if cycle.phase is Phase.CLOSING:
            return process, cycle
        if cycles.is_complete(config, cycle, now):
            await rounds.set_closing(db, cycle_id)
            return process, cycle
        if cycles.is_overdue(cycle, now):
            await rounds.extend(db, cycle_id, cycles.deadline(config, now))
            await participation.release_places(db, cycle_id)
            grid.metrics.cycles.labels("extended").inc()
            logger.info("cycle %d of '%s' is extended", cycle.number, process.name)
        await rounds.drop_lease(db, cycle_id)
    return None


@contextlib.asynccontextmanager
async def _lease_kept(grid: Grid, cycle_id: int) -> AsyncIterator[None]:
    """Renews the lease for as long as the block takes."""
    done = asyncio.Event()
    renewing = asyncio.create_task(_renew(grid, cycle_id, done))
    try:
        yield
    finally:
        done.set()  # not cancelled: that could cut a transaction short
        await asyncio.gather(renewing, return_exceptions=True)


async def _renew(grid: Grid, cycle_id: int, done: asyncio.Event) -> None:
    while not done.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(grid.settings.lease_seconds / 3):
                await done.wait()
                return
        now = grid.clock()
        async with grid.store.writing() as db:
            await rounds.take_lease(db, cycle_id, grid.replica, now, now + grid.settings.lease_seconds)


async def _average(grid: Grid, process: Process, cycle: Cycle) -> Outcome:
    """Averages a cycle's diffs, and stores the changed model. What is frozen takes no part in it.

    Most diffs are in the cycle's sum already; the others are read, one at a time.
    """
    async with grid.store.reading() as db:
        received = await participation.diffs(db, cycle.id)
    checkpoint = await grid.known.checkpoint(cycle.checkpoint_id)
    layout = process.changing_layout
    try:
        rule = await _rule(grid, process)
        tally = await grid.tallies.take(cycle.id)
        if tally is None or not tally.counted <= set(received):
            tally = Tally(rule.start(layout), set())
        for blob in received:
            if blob not in tally.counted:
                diff = await grid.blobs.get(blob)
                tally.state = await asyncio.to_thread(_add, rule, tally.state, diff, layout)
        average = await asyncio.to_thread(_finish, rule, tally, layout)
        model = await grid.blobs.get(checkpoint.blob)
        changed = await asyncio.to_thread(_apply, layout, process.changing, model, average)
        del model, average  # a large model's memory is free before more is needed
        data = await asyncio.to_thread(changed.serialize)
    except (AggregationError, PlanError, WireError, FileNotFoundError) as error:
        logger.warning("cycle %d of '%s' failed: %s", cycle.number, process.name, error)
        return Outcome(failure=_public_reason(error))
    return Outcome(blob=await grid.blobs.put("models", data))


async def catch_up(grid: Grid, running: Running) -> None:
    """Adds to an open cycle's sum what it lacks: reports from before a start, or of other replicas."""
    process = (await grid.known.hosted(running.process_id)).process
    if process.averaging_plan is not None or running.phase is not Phase.OPEN:
        return
    layout = process.changing_layout
    if not grid.tallies.lacks(running.id, layout, running.reported):
        return
    async with grid.store.reading() as db:
        received = await participation.diffs(db, running.id)
    for blob in received:
        grid.tallies.add(running.id, layout, blob)


async def _rule(grid: Grid, process: Process) -> AveragingRule:
    if process.averaging_plan is None:
        return mean()
    data = await grid.blobs.get(process.averaging_plan)
    plan = await asyncio.to_thread(Plan.parse, data)
    rule = averaging_plan(plan, iterative=process.server_config.iterative_plan)
    return rule if process.changing is None else for_part(rule, process.layout, process.changing)


def _add(rule: AveragingRule, state: Accumulated, diff: bytes, layout: Layout) -> Accumulated:
    return rule.add(state, read_stored(diff, layout))


def _finish(rule: AveragingRule, tally: Tally, layout: Layout) -> Tensors:
    """The averaged diff. The tally is used up, and its memory free."""
    average = rule.finish(tally.state, layout)
    tally.state = rule.start(())
    return average


def _apply(layout: Layout, places: Places, model: bytes, average: Tensors) -> State:
    """What changes of the model, after the cycle."""
    optimizer = plain()
    changed, _ = optimizer.step(State.parse(model).tensors, average, optimizer.start(layout))
    return State.of(changed, places)


def _public_reason(error: Exception) -> str:
    return "a stored diff or Plan is missing" if isinstance(error, FileNotFoundError) else str(error)


async def _end(grid: Grid, process: Process, cycle: Cycle, outcome: Outcome) -> None:
    """Ends a cycle with its outcome and opens the next, in one transaction; then forgets the diffs."""
    phase = Phase.DONE if outcome.failure is None else Phase.FAILED
    now = grid.clock()
    async with grid.store.writing() as db:
        ended = await rounds.end_cycle(db, cycle.id, grid.replica, phase, outcome.failure, now)
        if ended:
            await _open_next(db, process, cycle, outcome, now)
            if not grid.settings.keep_diffs:
                await participation.forget_diffs(db, cycle.id)
    if not ended:
        logger.warning("cycle %d of '%s' was closed by another replica", cycle.number, process.name)
        await grid.blobs.delete(*filter(None, [outcome.blob]))
        return
    grid.metrics.cycles.labels(phase.value).inc()
    logger.info("cycle %d of '%s' is %s", cycle.number, process.name, phase.value)
    await diffs.forget(grid, cycle.id)


async def _open_next(db: Db, process: Process, cycle: Cycle, outcome: Outcome, now: float) -> None:
    """Stores the new checkpoint, if there is one, and opens the next cycle, if there is to be one."""
    checkpoint_id = cycle.checkpoint_id
    if outcome.blob is not None:
        latest = await catalogue.get_checkpoint(db, cycle.checkpoint_id)
        checkpoint_id = await catalogue.add_checkpoint(db, process.id, latest.number + 1, outcome.blob, now)
    number = cycle.number + 1
    if cycles.takes_place(process.server_config, number):
        deadline = cycles.deadline(process.server_config, now)
        await rounds.open_cycle(db, process.id, number, checkpoint_id, now, deadline)
