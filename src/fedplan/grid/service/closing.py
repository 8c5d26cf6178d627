"""How a cycle ends: its diffs are averaged, the model changes, the next cycle opens.

Several replicas may share the store. The one that holds a cycle's lease closes it, and writes the result only
if the lease is still its own; see `leases`.
"""

import dataclasses
import logging
from collections.abc import Sequence

from fedplan.errors import (
    AggregationError,
    ConfigError,
    DamagedBlobError,
    DamagedReportsError,
    NotFoundError,
    PlanError,
    SecureAggregationError,
    WireError,
)
from fedplan.federation import Strategy, Task, enough_to_stop, is_overdue, round_of
from fedplan.federation.goals import is_reached
from fedplan.federation.privacy import spending_of, why_budget_is_spent
from fedplan.grid.averaging.average import Averaged, average, measured
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Event, Kind
from fedplan.grid.records import Checkpoint, Cycle, CycleSummary, Lease, Phase, Process
from fedplan.grid.secure import averaging, progress, stages
from fedplan.grid.secure import queries as secure_queries
from fedplan.grid.service import diffs
from fedplan.grid.service.events import about, of_workers, record
from fedplan.grid.service.leases import Held
from fedplan.grid.service.opening import open_cycle
from fedplan.grid.service.over_selecting import note_drop_out
from fedplan.grid.service.retention import retain
from fedplan.grid.store import catalogue, participation, reports, rounds, spendings
from fedplan.grid.store.connection import Db
from fedplan.grid.web.replies import log_failure
from fedplan.text import counted

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a cycle.

    Attributes:
        averaged: the average; None when it failed, and of one that only measured the model.
        summary: what else is known of it.
        failure: why it failed.
    """

    averaged: Averaged | None = None
    summary: CycleSummary | None = None
    failure: str | None = None


async def attend(grid: Grid, seen: Lease) -> None:
    """Closes a cycle that waits to be closed, or extends one whose time passed with too few reports.

    Does nothing when another replica is at it, for then its lease is no more as it was seen.
    """
    claimed = await _claim(grid, seen)
    if claimed is None:
        return
    process, cycle, held = claimed
    while True:
        try:
            with grid.tallies.returned(cycle.id):
                with grid.metrics.closing_seconds.time():
                    async with held.kept():
                        outcome = await _average(grid, process, cycle)
                await _end(grid, process, cycle, held.lease, outcome)
            return
        except DamagedReportsError as error:
            if not await _leave_out(grid, process, cycle, held, error.blobs):
                return


async def _claim(grid: Grid, seen: Lease) -> tuple[Process, Cycle, Held] | None:
    """Takes the lease of a cycle that is to be averaged now, and stops it from taking reports.

    A secure cycle goes to its next stage meanwhile, if it has one.
    """
    now = grid.clock()
    async with grid.store.writing() as db:
        lease = await rounds.take_lease(db, seen, grid.replica)
        if lease is None:
            return None
        cycle = await participation.get_cycle(db, lease.cycle_id, lock=True)
        process = (await grid.known.of_cycle(cycle, db)).process
        stage = round_of(grid.known.strategy(process)).stage_of(cycle)
        if cycle.phase is Phase.CLOSING:
            return process, cycle, Held(grid, lease)
        is_secure = progress.is_secure(process, cycle)
        if not is_secure and stage.is_complete(cycle, now):
            await rounds.set_closing(db, cycle.id)
            why = f"its time was over, with {counted(cycle.reported, 'report')}"
            await record(grid, db, about(process, Kind.CLOSED, why, cycle=cycle))
            return process, cycle, Held(grid, lease)
        if not is_secure and is_overdue(cycle, now):
            await rounds.extend(db, cycle.id, stage.deadline(now))
            workers = await participation.release_places(db, cycle.id)
            why = f"its time was over, with {counted(cycle.reported, 'report')} of the {stage.needed} needed"
            await record(grid, db, of_workers(process, Kind.EXTENDED, why, cycle, workers))
            grid.metrics.cycles.labels("extended").inc()
            logger.info("cycle %d of '%s' is extended", cycle.number, process.name)
        if not is_secure:
            await rounds.drop_lease(db, lease)
    # outside of that transaction, for what the next stage begins with may take a while to make
    if is_secure and await stages.advance(grid, process, cycle, lease):
        return process, cycle, Held(grid, lease)
    return None


async def _average(grid: Grid, process: Process, cycle: Cycle) -> Outcome:
    checkpoint = await grid.known.checkpoint(cycle.checkpoint_id)
    try:
        return await _made(grid, process, cycle, checkpoint)
    except (AggregationError, ConfigError, PlanError, SecureAggregationError, WireError) as error:
        logger.warning("cycle %d of '%s' failed: %s", cycle.number, process.name, error)
        return Outcome(failure=str(error))
    except (DamagedBlobError, FileNotFoundError):  # what all reports need: they are kept until it is there
        grid.faults[cycle.id] = (
            f"cycle {cycle.number} cannot be closed, for the stored model, the strategy's state or the "
            "averaging Plan is damaged or missing; the grid's log names the blob: put it back from a backup"
        )
        raise


async def _made(grid: Grid, process: Process, cycle: Cycle, checkpoint: Checkpoint) -> Outcome:
    try:
        if cycle.task is Task.EVALUATION:
            return Outcome(summary=await measured(grid, process, cycle.id))
        if progress.is_secure(process, cycle):
            made = await averaging.averaged(grid, process, cycle, checkpoint)
        else:
            made = await average(grid, process, cycle.id, checkpoint)
        return Outcome(made, made.summary)
    except DamagedReportsError:
        await grid.blobs.get(checkpoint.blob)  # if that is missing too, all may be, and only for a while
        raise


async def _leave_out(grid: Grid, process: Process, cycle: Cycle, held: Held, blobs: Sequence[str]) -> bool:
    """Takes damaged and missing reports out of a closing cycle.

    Returns:
        Whether it may be averaged without them. If too few reports are left, it is open again and waits for
        others. False also when another replica closes it.
    """
    now = grid.clock()
    async with grid.store.writing() as db:
        lease = await rounds.take_lease(db, held.lease, grid.replica)
        if lease is None:
            return False
        left = await reports.leave_out(db, cycle.id, blobs)
        strategy = grid.known.strategy(process)
        stage = round_of(strategy).stage_of(left)
        dropped = too_few(strategy, left) if left.ordered_end else None
        goes_on = dropped is None if left.ordered_end else stage.is_complete(left, now)
        why = "what was stored of them is damaged or missing; the log names the blobs"
        await record(grid, db, about(process, Kind.DAMAGED, why, cycle=cycle, reports=len(blobs)))
        if dropped is not None:
            await drop(grid, db, await catalogue.get_process(db, process.id), left, dropped)
        elif not goes_on:
            await rounds.reopen(db, cycle.id)
            await rounds.drop_lease(db, lease)
            why = f"{counted(left.reported, 'report')} of the {stage.needed} needed are left"
            await record(grid, db, about(process, Kind.REOPENED, why, cycle=cycle))
    held.lease = lease
    grid.metrics.reports.labels("damaged").inc(len(blobs))
    logger.error(
        "%d reports of cycle %d of '%s' are lost, for their blobs are damaged or missing: %s. The cycle %s",
        len(blobs),
        cycle.number,
        process.name,
        ", ".join(blobs),
        "goes on without them" if goes_on else "waits for others" if dropped is None else "is dropped",
    )
    if dropped is not None:
        await diffs.forget(grid, cycle.id, process)
    return goes_on


def too_few(strategy: Strategy, cycle: Cycle) -> str | None:
    """Why a cycle with which its owner ends the training makes no checkpoint; None when it makes one."""
    if round_of(strategy).is_secure:
        return (
            "the training was stopped while a secure round was under way: it ends without a sum, and nothing "
            "of any report was unmasked"
        )
    least = enough_to_stop(strategy)
    if cycle.reported >= least:
        return None
    return f"the training was stopped when the cycle had {cycle.reported} of {least} reports"


async def drop(grid: Grid, db: Db, newest: Process, cycle: Cycle, why: str) -> None:
    """Ends a cycle without a checkpoint, also one that another replica is closing, and opens the next.

    Args:
        grid: the grid.
        db: a transaction in which the cycle is locked. `diffs.forget` follows it.
        newest: the model, with its newest configurations.
        cycle: the cycle, which has not ended.
        why: the reason, for its owner.
    """
    await rounds.drop_cycle(db, cycle.id, grid.clock.wall(), why)
    await secure_queries.forget(db, cycle.id)
    if diffs.cycles_kept(grid, newest) == 0:
        await reports.forget_diffs(db, cycle.id)
    grid.metrics.cycles.labels(Phase.FAILED.value).inc()
    logger.info("cycle %d of %s is dropped: %s", cycle.number, newest.named, why)
    await _open_next(grid, db, newest, cycle, Outcome(failure=why))


async def _end(grid: Grid, process: Process, cycle: Cycle, lease: Lease, outcome: Outcome) -> None:
    """Ends a cycle with its outcome and opens the next, in one transaction; then forgets the diffs."""
    phase = Phase.DONE if outcome.failure is None else Phase.FAILED
    try:
        ended = await _is_ended(grid, process, cycle, lease, outcome)
    except NotFoundError:
        ended = False
    except Exception:
        await _drop_unless_stored(grid, cycle, outcome.averaged)
        raise
    if not ended:
        logger.warning(
            "cycle %d of '%s' was closed by another replica, or ended by its owner",
            cycle.number,
            process.name,
        )
        await _drop(grid, outcome.averaged)
        return
    grid.metrics.cycles.labels(phase.value).inc()
    logger.info("cycle %d of '%s' is %s", cycle.number, process.name, phase.value)
    await _keep_less(grid, cycle)


async def _keep_less(grid: Grid, cycle: Cycle) -> None:
    """Deletes what is not to be kept after a cycle, as the model's owner wants it now."""
    newest = await diffs.process_of(grid, cycle.process_id)
    await diffs.forget(grid, cycle.id, newest)
    if newest is None:  # the model was deleted
        return
    try:
        await retain(grid, newest)
    except Exception as error:  # noqa: BLE001  # the cycle has ended all the same
        log_failure(logger, f"of '{newest.name}' not all is deleted that is not kept", error)


async def _is_ended(grid: Grid, process: Process, cycle: Cycle, lease: Lease, outcome: Outcome) -> bool:
    """Ends a cycle in the store, and opens the next; False when the lease was lost.

    Raises:
        NotFoundError: the model was deleted.
    """
    while True:
        async with grid.store.reading() as db:
            newest = await catalogue.get_process(db, process.id)
        goal_reached = await _is_goal_reached(grid, newest, cycle, outcome)
        today = grid.clock.wall()
        async with grid.store.writing() as db:
            cycle = await participation.get_cycle(db, cycle.id, lock=True)  # with what its owner has ordered
            if await catalogue.find_revision(db, newest.name, newest.version) != (newest.id, newest.revision):
                continue  # perhaps with another goal
            ended = await rounds.end_cycle(db, lease, today, failure=outcome.failure, summary=outcome.summary)
            if ended:
                await _open_next(grid, db, newest, cycle, outcome, goal_reached=goal_reached)
                await secure_queries.forget(db, cycle.id)
                if diffs.cycles_kept(grid, newest) == 0:
                    await reports.forget_diffs(db, cycle.id)
        return ended


async def _drop_unless_stored(grid: Grid, cycle: Cycle, made: Averaged | None) -> None:
    """Deletes a new model when the transaction that was to store it failed: the next try makes another one.

    A database may lose the answer to a commit. So the cycle is looked at; who cannot do so leaves the blobs.
    """
    try:
        async with grid.store.writing() as db:
            is_over = (await participation.get_cycle(db, cycle.id, lock=True)).is_over
        if not is_over:
            await _drop(grid, made)
    except Exception as error:  # noqa: BLE001  # the error that led here is raised
        log_failure(logger, "a model that was not stored is left among the blobs", error)


async def _drop(grid: Grid, made: Averaged | None) -> None:
    """Deletes what was made of a model, to which no row refers."""
    await grid.blobs.delete(*filter(None, [made.blob, made.state] if made else []))


async def _open_next(
    grid: Grid, db: Db, newest: Process, cycle: Cycle, outcome: Outcome, *, goal_reached: bool = False
) -> None:
    """Stores the new checkpoint, if there is one, and opens the next cycle, if there is to be one.

    After the last one, and when the model has reached its goal or its owner has stopped it, that is one of
    evaluation; how many there are is said by the newest server_config. The next cycle starts from the newest
    checkpoint, which may be one that the owner has chosen.
    """
    number = (await catalogue.get_checkpoint(db, cycle.checkpoint_id)).number
    if outcome.averaged is not None:
        number = await catalogue.next_number(db, cycle.process_id)
        made, today = outcome.averaged, grid.clock.wall()
        await catalogue.add_checkpoint(
            db, cycle.process_id, number, made.blob, today, made.state, cycle=cycle.number
        )
    await record(grid, db, _ended(newest, cycle, outcome, number))
    spent = await _spend(db, newest, cycle, outcome, number)
    if cycle.task is Task.EVALUATION:
        task = Task.TRAINING if cycle.ordered_end is False else None
    else:
        round = round_of(grid.known.strategy(newest))
        task = round.after(cycle, goal_reached=goal_reached or spent or cycle.ordered_end is True)
    await note_drop_out(grid, db, newest, cycle)
    if task is not None:
        start = await catalogue.latest_checkpoint(db, cycle.process_id)
        paused = cycle.paused_at is not None
        why = f"cycle {cycle.number} has ended"
        await open_cycle(grid, db, newest, cycle.number + 1, start.id, task, why, paused=paused)


def _ended(process: Process, cycle: Cycle, outcome: Outcome, checkpoint: int) -> Event:
    """The event of a cycle's end; `checkpoint` is the one that it made, or else started from."""
    reports = None if outcome.summary is None else outcome.summary.reports
    if outcome.failure is not None:
        return about(process, Kind.FAILED, outcome.failure, cycle=cycle, checkpoint=checkpoint)
    if outcome.averaged is None:
        why = f"checkpoint {checkpoint} was measured by {counted(reports or 0, 'worker')}"
        return about(process, Kind.EVALUATED, why, cycle=cycle, checkpoint=checkpoint, reports=reports)
    why = f"checkpoint {checkpoint} was made of {counted(reports or 0, 'report')}"
    return about(process, Kind.AVERAGED, why, cycle=cycle, checkpoint=checkpoint, reports=reports)


async def _spend(db: Db, process: Process, cycle: Cycle, outcome: Outcome, checkpoint: int) -> bool:
    """Adds a cycle to the ledger of a model with privacy, also one that failed: why it did is known.

    Args:
        db: the transaction that ends the cycle.
        process: the model.
        cycle: the cycle.
        outcome: what came of it.
        checkpoint: number of the one that it made, if it made one.

    Returns:
        Whether the budget is spent, so that no cycle may follow.
    """
    config = process.server_config.privacy
    if config is None or cycle.task is not Task.TRAINING:
        return False
    before = await spendings.count(db, process.id)
    made, reported = (None, cycle.reported)
    if outcome.averaged is not None:
        made, reported = checkpoint, outcome.averaged.summary.reports
    await spendings.add(db, process.id, spending_of(config, before, cycle.number, made, reported))
    why = why_budget_is_spent(before + 1, config)
    if why is not None:
        logger.info("the training of %s ends: %s", process.named, why)
    return why is not None


async def _is_goal_reached(grid: Grid, process: Process, cycle: Cycle, outcome: Outcome) -> bool:
    """Whether the training has come to what its owner wants, by the metrics of all its cycles."""
    stop = process.server_config.stop
    if stop is None or cycle.task is not Task.TRAINING:
        return False
    values = dict(await grid.known.metric_by_checkpoint(process.id, stop.metric))
    if outcome.summary is not None and stop.metric in outcome.summary.metrics:
        checkpoint = await grid.known.checkpoint(cycle.checkpoint_id)
        values[checkpoint.number] = outcome.summary.metrics[stop.metric].mean.value
    if not is_reached(stop, values):
        return False
    logger.info("the training of '%s' ends: its goal for %s is reached", process.name, stop.metric)
    return True
