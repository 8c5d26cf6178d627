"""How a worker's diff comes in: checked, on disk, counted, and only then acknowledged."""

import asyncio
import dataclasses

from fedplan.errors import DiffRefusedError, OverloadedError, ReportConflictError
from fedplan.federation import Setting, Strategy, Task, Tensors, Update, round_of
from fedplan.federation.refusals import check_change, needs_no_look
from fedplan.grid.averaging.average import count
from fedplan.grid.blobs.checksum import mark_of
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import key_digest
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Assignment, Cycle, Phase, Process, Report
from fedplan.grid.secure.progress import is_secure
from fedplan.grid.service.access import find_place
from fedplan.grid.service.diffs import forget, group_of, process_of
from fedplan.grid.service.events import about, record
from fedplan.grid.service.examining import examine, examine_measurement
from fedplan.grid.service.receiving import PATIENCE, Given, receiving, refusals_counted
from fedplan.grid.store import catalogue, keeping, participation, rounds
from fedplan.text import counted
from fedplan.wire import State
from fedplan.wire.messages import ReportKeys, ReportRequest, Success
from fedplan.wire.scalars import Buffer

_SHORTEST_LOOK, _LONGEST_LOOK = 0.01, 0.25
"""Seconds between two looks whether the next cycle is open."""

_QUICK_BYTES = 4 * 1024 * 1024
_QUICK_TENSORS = 100
"""Diffs so small are checked in a millisecond: less than a thread takes to get Python's lock a few times
while others want it too. The bounds below hold for a diff that is made to be slow."""


async def report(grid: Grid, request: ReportRequest) -> Success:
    """Takes a worker's diff into its cycle.

    A diff that is refused does not use up the request key: the worker may send a good one. One that was taken
    may come again, for its answer may have been lost: it is not counted twice.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        ReportConflictError: the worker has reported something else already or gave its place back, or its
            cycle is over.
        DiffRefusedError: the diff is not base64 of a State that fits the model.
        OverloadedError: more reports came than the grid can take.
    """
    return await _answered(grid, request, request.diff)


async def report_bytes(grid: Grid, keys: ReportKeys, diff: Buffer) -> Success:
    """Like `report`, for a diff that came as the State's own bytes."""
    return await _answered(grid, keys, diff)


async def check_keys(grid: Grid, keys: ReportKeys) -> None:
    """Refuses a report whose keys open nothing, before it is read.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
    """
    with refusals_counted(grid, keys.worker_id):
        async with grid.store.reading() as db:
            await find_place(db, keys.worker_id, keys.request_key)


async def _answered(grid: Grid, keys: ReportKeys, diff: Buffer | str) -> Success:
    async with receiving(grid, keys.worker_id) as given:
        await _take(grid, keys, diff, given)
    return Success()


async def _take(grid: Grid, keys: ReportKeys, diff: Buffer | str, told: Given) -> None:
    async with grid.store.reading() as db:
        place, given = await find_place(db, keys.worker_id, keys.request_key)
    process = (await grid.known.of_cycle(given)).process
    told.process, told.cycle = process, given
    if is_secure(process, given) and not place.aside:
        raise DiffRefusedError(
            "the model adds reports up by secure aggregation: a report that is not under masks is neither "
            "read nor kept. Take part with a fedplan that reports securely"
        )
    strategy = grid.known.strategy(process)
    if place.digest is not None and place.digest == await asyncio.to_thread(
        _digest, place.task_in(given), process, strategy, diff
    ):
        return
    if place.task_in(given) is Task.EVALUATION:
        await _take_measurement(grid, keys, strategy, place, given, diff)
        return
    start = await grid.known.checkpoint(given.checkpoint_id)
    reach = await grid.known.reach(start)
    quick = len(diff) <= _QUICK_BYTES and len(process.layout) <= _QUICK_TENSORS
    if quick and not process.server_config.report_formats:
        examined = examine(diff, process, strategy)  # to a thread would take longer
    else:
        examined = await asyncio.to_thread(examine, diff, process, strategy)
    if not needs_no_look(process.setting, reach, examined.reach):  # hardly ever
        model = await grid.blobs.get(start.blob)
        await asyncio.to_thread(_check_change, process.setting, model, examined.update.tensors)
    while True:
        into, staleness = await _destination(grid, strategy, place, given)
        update = dataclasses.replace(examined.update, staleness=staleness)
        strategy = grid.known.strategy((await grid.known.of_cycle(into)).process)
        if await _is_kept(grid, keys, strategy, place, into.id, examined.data, examined.digest, update):
            break
        async with grid.store.reading() as db:
            place, given = await find_place(db, keys.worker_id, keys.request_key)
    await grid.tallies.settle(into.id)


def _digest(task: Task, process: Process, strategy: Strategy, sent: Buffer | str) -> str:
    """The digest that a report would be kept with, in whatever form it came.

    Raises:
        DiffRefusedError: it would not be kept.
    """
    if task is Task.EVALUATION:
        return mark_of(examine_measurement(sent))
    return examine(sent, process, strategy).digest


async def _take_measurement(
    grid: Grid, keys: ReportKeys, strategy: Strategy, place: Assignment, given: Cycle, sent: Buffer | str
) -> None:
    """Takes what a worker measured that does not train."""
    if place.reported or place.declined or not given.is_open:
        raise _conflict(place)
    data = examine_measurement(sent)
    if not await _is_kept(grid, keys, strategy, place, given.id, data, mark_of(data)):
        raise _conflict(place)


async def _destination(grid: Grid, strategy: Strategy, place: Assignment, given: Cycle) -> tuple[Cycle, int]:
    """The cycle that a report goes into, and how many checkpoints too late it is for its own.

    Raises:
        ReportConflictError: there is none.
        OverloadedError: the next cycle, into which it would go, does not open.
    """
    if place.declined:
        raise _conflict(place)
    if not place.reported and given.phase is Phase.OPEN:
        return given, 0
    if place.reported or strategy.staleness is None:
        raise _conflict(place)
    latest = await _after_closing(grid, given.process_id)
    async with grid.store.reading() as db:
        restarted_after = await catalogue.restarted_after(db, given.process_id)
    old = await grid.known.checkpoint(given.checkpoint_id)
    new = await grid.known.checkpoint(latest.checkpoint_id)
    staleness = new.number - old.number
    trains = latest.phase is Phase.OPEN and latest.task is Task.TRAINING
    if not trains or given.number <= restarted_after or staleness > strategy.staleness:
        raise _conflict(place)
    return latest, staleness


async def _after_closing(grid: Grid, process_id: int) -> Cycle:
    """The model's latest cycle, once none is closing.

    Raises:
        OverloadedError: that takes long.
    """
    pause, patience = _SHORTEST_LOOK, PATIENCE
    while patience > 0:
        async with grid.store.reading() as db:
            latest = await participation.latest_cycle(db, process_id)
        if latest.phase is not Phase.CLOSING:
            return latest
        await asyncio.sleep(pause)
        patience -= pause
        pause = min(2 * pause, _LONGEST_LOOK)
    raise OverloadedError("the next cycle has not opened yet; send the report again in a few seconds")


async def _is_kept(
    grid: Grid,
    keys: ReportKeys,
    strategy: Strategy,
    place: Assignment,
    into: int,
    data: Buffer,
    digest: str,
    update: Update | None = None,
) -> bool:
    """Stores a report, unless it has come before.

    Returns:
        False when its cycle takes no reports any more; a later one may take it.

    Raises:
        ReportConflictError: no cycle takes it.
    """
    try:
        await _keep(grid, keys, strategy, place, into, data, digest, update)
    except ReportConflictError:
        # a writing transaction sees what is about to be committed, and waits for it
        async with grid.store.writing() as db:
            place, _ = await find_place(db, keys.worker_id, keys.request_key)
            comes_second = place.reported or await participation.identity_has_reported(db, place)
        if place.digest == digest:  # it came twice at once
            return True
        if comes_second or strategy.staleness is None:
            raise
        return False
    return True


async def _keep(
    grid: Grid,
    keys: ReportKeys,
    strategy: Strategy,
    place: Assignment,
    into: int,
    data: Buffer,
    digest: str,
    update: Update | None,
) -> None:
    """Stores a report, and adds it to a cycle: to its sum too, if it holds an update."""
    try:
        blob = await grid.blobs.add(group_of(grid, into), data, digest)
        await _count(grid, keys, strategy, place, into, blob, digest, update)
    except (FileNotFoundError, ReportConflictError) as error:
        ended = await _forget_late(grid, into)
        if ended and isinstance(error, FileNotFoundError):  # deleted, while it was written, with the others
            raise _conflict(place) from None
        raise


async def _count(
    grid: Grid,
    keys: ReportKeys,
    strategy: Strategy,
    place: Assignment,
    into: int,
    blob: str,
    digest: str,
    update: Update | None,
) -> None:
    """Adds the report to a cycle, and lets the cycle close when it has all it needs."""
    now, today = grid.clock(), grid.clock.wall()
    async with grid.store.writing() as db:
        key = key_digest(keys.request_key)
        cycle = await participation.add_report(db, place, key, blob, digest, today, grid.replica, into=into)
        if cycle is None:  # something changed since the place was found
            place, _ = await find_place(db, keys.worker_id, keys.request_key)
            if await participation.identity_has_reported(db, place):
                raise ReportConflictError(
                    "another worker of the same subject has reported in this cycle; ask for the next"
                )
            raise _conflict(place)
        complete = round_of(strategy).stage_of(cycle).is_complete(cycle, now)
        process = (await grid.known.of_cycle(cycle, db)).process
        why = "it came, and is on disk"
        happened = [about(process, Kind.REPORTED, why, cycle=cycle, worker_id=place.worker_id)]
        if complete:
            await rounds.set_closing(db, cycle.id)
            why = f"{counted(cycle.reported, 'report')} came, which is enough"
            happened.append(about(process, Kind.CLOSED, why, cycle=cycle))
        await record(grid, db, *happened)
        if update is not None:
            stored = Report(blob, update.staleness)
            count(grid, strategy, cycle, stored, update)  # before anybody else can know of the report
    if complete:
        grid.closable.set()


async def _forget_late(grid: Grid, cycle_id: int) -> bool:
    """Whether a cycle has ended; then a diff that came after its others were deleted is deleted too."""
    async with grid.store.reading() as db:
        ended = bool(await rounds.ended(db, [cycle_id]))
        process_ids = await keeping.processes_of(db, [cycle_id])
    if ended:
        await forget(grid, cycle_id, await process_of(grid, process_ids.get(cycle_id)))
    return ended


def _check_change(setting: Setting, model: bytes, diff: Tensors) -> None:
    check_change(setting, State.parse(model).tensors, diff)


def _conflict(place: Assignment) -> ReportConflictError:
    if place.reported:
        return ReportConflictError("this worker has reported in this cycle already; ask for the next one")
    if place.declined:
        return ReportConflictError(
            "this worker gave its place back, and others may have it: ask for a place again, and report with "
            "its request_key"
        )
    return ReportConflictError("the report comes too late: its cycle is over; ask for the next one")
