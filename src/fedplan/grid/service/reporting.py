"""How a worker's diff comes in: checked, on disk, counted, and only then acknowledged."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Collection, Sequence

import pybase64

from fedplan.errors import (
    AggregationError,
    DiffRefusedError,
    GridError,
    OverloadedError,
    ReportConflictError,
    WireError,
)
from fedplan.federation import (
    Layout,
    Reach,
    Tensors,
    apply,
    changed_outside,
    is_within,
    largest_diff,
    misfit,
    part_of,
    reach_of,
)
from fedplan.grid import cycles
from fedplan.grid.auth import key_digest
from fedplan.grid.grid import Grid
from fedplan.grid.records import Assignment, Phase, Process
from fedplan.grid.service.access import find_place
from fedplan.grid.service.diffs import forget, group_of
from fedplan.grid.store import participation, rounds
from fedplan.grid.tally import read_stored
from fedplan.wire import State
from fedplan.wire.compression import decompress
from fedplan.wire.messages import ReportKeys, ReportRequest, Success
from fedplan.wire.protobuf import Buffer
from fedplan.wire.state import Places

logger = logging.getLogger(__name__)

_PATIENCE = 8.0  # seconds to wait for one's turn; clients give up after ten

_QUICK_BYTES = 4 * 1024 * 1024
_QUICK_TENSORS = 100
"""Diffs so small are checked in a millisecond: less than a thread takes to get Python's lock a few times
while others want it too. The bounds below hold for a diff that is made to be slow."""

_VALUES = 1000
_VALUES_OF_TENSOR = 200
"""Most ids, tags, extents and so on in a diff. Of a tensor, clients send about twenty."""

_PLACES_TOLD = 10


async def report(grid: Grid, request: ReportRequest) -> Success:
    """Takes a worker's diff into its cycle.

    A diff that is refused does not use up the request key: the worker may send a good one.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        ReportConflictError: the worker has reported already, or its cycle is over.
        DiffRefusedError: the diff is not base64 of a State that fits the model.
        OverloadedError: more reports came than the grid can take.
    """
    return await _answered(grid, request, request.diff)


async def report_bytes(grid: Grid, keys: ReportKeys, diff: Buffer) -> Success:
    """Like `report`, for a diff that came as the State's own bytes."""
    return await _answered(grid, keys, diff)


async def _answered(grid: Grid, keys: ReportKeys, diff: Buffer | str) -> Success:
    try:
        async with _turn(grid):
            await _take(grid, keys, diff)
    except GridError as error:
        grid.metrics.reports.labels("refused").inc()
        logger.info("a report was refused: %s", error)
        raise
    grid.metrics.reports.labels("accepted").inc()
    return Success()


@contextlib.asynccontextmanager
async def _turn(grid: Grid) -> AsyncIterator[None]:
    """One of the few places for reports that are being taken."""
    try:
        async with asyncio.timeout(_PATIENCE):
            await grid.reporting.acquire()
    except TimeoutError:
        raise OverloadedError("the grid has more reports than it can take; try again later") from None
    try:
        yield
    finally:
        grid.reporting.release()


async def _take(grid: Grid, keys: ReportKeys, diff: Buffer | str) -> None:
    async with grid.store.reading() as db:
        place, cycle = await find_place(db, keys.worker_id, keys.request_key)
    if place.reported or cycle.phase is not Phase.OPEN:
        raise _conflict(place)
    process = (await grid.known.hosted(cycle.process_id)).process
    start = await grid.known.checkpoint(cycle.checkpoint_id)
    reach = await grid.known.reach(start)
    quick = len(diff) <= _QUICK_BYTES and len(process.layout) <= _QUICK_TENSORS
    if quick and not process.server_config.report_formats:
        data, tensors, diff_reach = _examine(diff, process)  # to a thread would take longer
    else:
        data, tensors, diff_reach = await asyncio.to_thread(_examine, diff, process)
    if not is_within(reach, diff_reach, process.changing_layout):  # hardly ever
        await asyncio.to_thread(_check_result, await grid.blobs.get(start.blob), tensors)
    try:
        blob = await grid.blobs.add(group_of(grid, cycle.id), data)
        await _count(grid, keys, process, place, blob, tensors)
    except (FileNotFoundError, ReportConflictError) as error:
        ended = await _forget_late(grid, cycle.id)
        if ended and isinstance(error, FileNotFoundError):  # deleted, while it was written, with the others
            raise _conflict(place) from None
        raise
    await grid.tallies.settle(cycle.id)


async def _count(
    grid: Grid, keys: ReportKeys, process: Process, place: Assignment, blob: str, diff: Tensors
) -> None:
    """Adds the report to its cycle, and lets the cycle close when it has all it needs."""
    now = grid.clock()
    async with grid.store.writing() as db:
        cycle = await participation.add_report(db, place, key_digest(keys.request_key), blob, now)
        if cycle is None:  # something changed since the place was found
            place, _ = await find_place(db, keys.worker_id, keys.request_key)
            raise _conflict(place)
        complete = cycles.is_complete(process.server_config, cycle, now)
        if complete:
            await rounds.set_closing(db, cycle.id)
        if process.averaging_plan is None:  # before anybody else can know of the report
            grid.tallies.add(cycle.id, process.changing_layout, blob, diff)
    if complete:
        grid.closable.set()


async def _forget_late(grid: Grid, cycle_id: int) -> bool:
    """Whether a cycle has ended; then a diff that came after its others were deleted is deleted too."""
    async with grid.store.reading() as db:
        cycle = await participation.get_cycle(db, cycle_id)
    ended = cycle.phase in (Phase.DONE, Phase.FAILED)
    if ended:
        await forget(grid, cycle_id)
    return ended


def _examine(diff: Buffer | str, process: Process) -> tuple[Buffer, Tensors, Reach]:
    formats = process.server_config.report_formats
    data, tensors = read_diff(diff, process.layout, formats, process.changing)
    return data, tensors, reach_of(tensors)


def read_diff(
    diff: Buffer | str, layout: Layout, formats: Collection[str] = (), changing: Places = None
) -> tuple[Buffer, Tensors]:
    """What is kept of a report: the State of the tensors that change, and these tensors, checked.

    Args:
        diff: the State's bytes, or base64 of them; white space in this is no fault. It holds all tensors of
            the model, or exactly those that change.
        layout: the model's.
        formats: in what the model takes diffs besides float32.
        changing: which of the model's tensors change.

    Raises:
        DiffRefusedError: it is not base64, not a State, too large, or does not fit the model; a tensor that
            is frozen differs.
    """
    _check_size(len(diff) // (2 if isinstance(diff, str) else 1), layout)  # white space counts too
    data = _decoded(diff) if isinstance(diff, str) else diff
    try:
        state = State.parse(data, _VALUES + _VALUES_OF_TENSOR * len(layout))
        whole = _is_whole(state.places, len(layout), changing)
        expected = layout if whole else part_of(layout, changing)
        _check_size(len(data), expected)
        reason = _other_dtype(state, expected)
        tensors = () if reason else decompress(state, [shape for shape, _ in expected], formats)
    except WireError as error:
        raise DiffRefusedError(f"the diff cannot be read: {error}") from None
    reason = reason or misfit(tensors, expected)
    if reason is not None:
        raise DiffRefusedError(f"the diff does not fit the model: {reason}")
    return _reduced(state, tensors, layout, changing) if whole and changing is not None else (data, tensors)


def _check_size(size: int, layout: Layout) -> None:
    if size > largest_diff(layout):
        raise DiffRefusedError("the diff is far larger than one of this model can be")


def _is_whole(held: Places, tensors: int, changing: Places) -> bool:
    """Whether a diff is to hold all tensors of the model, not only those that change.

    Raises:
        DiffRefusedError: it says that it holds others.
    """
    if held is None or held == tuple(range(tensors)):
        return True
    if held == changing:
        return False
    least = "" if changing is None else f", or exactly the {len(changing)} that change: {_listed(changing)}"
    raise DiffRefusedError(
        f"the diff holds these tensors of the model: {_listed(held)}. A report holds all {tensors}{least}"
    )


def _listed(places: Sequence[int]) -> str:
    shown = ", ".join(map(str, places[:_PLACES_TOLD]))
    return shown if len(places) <= _PLACES_TOLD else f"{shown} …"


def _reduced(
    state: State, tensors: Tensors, layout: Layout, changing: Sequence[int]
) -> tuple[bytes, Tensors]:
    """A whole diff without what is frozen; it keeps nothing of the whole one's memory."""
    changed = changed_outside(tensors, changing)
    if changed is not None:
        raise DiffRefusedError(
            f"the diff changes tensor {changed}, which is frozen in the model's Plans, or private to each "
            "worker: send zeros for it, or leave all such tensors out"
        )
    data = state.part(changing).serialize()
    return data, read_stored(data, part_of(layout, tuple(changing)))


def _other_dtype(state: State, layout: Layout) -> str | None:
    """Why a State's tensors are not of the model's dtypes: seen before any time goes into reading them."""
    for index, (given, (_, dtype)) in enumerate(zip(state.dtypes, layout, strict=False)):
        if given not in ("", dtype) and (given, dtype) != ("qint8", "float32"):  # a smaller form of it
            return f"tensor {index} is of {given}, the model's of {dtype}"
    return None


def _decoded(text: str) -> bytes:
    try:
        return pybase64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error is one, and so is text that is not ASCII
        pass
    try:
        return pybase64.b64decode("".join(text.split()), validate=True)  # KotlinSyft breaks its lines
    except ValueError:
        raise DiffRefusedError("the diff is not base64") from None


def _check_result(model: bytes, diff: Tensors) -> None:
    """Refuses a diff after which the model that the worker trained cannot exist.

    The mean of models that can exist is one too: so no single diff makes a cycle's average unusable.
    """
    try:
        apply(State.parse(model).tensors, diff)
    except AggregationError as error:
        raise DiffRefusedError(f"the diff does not fit the model: {error}") from None


def _conflict(place: Assignment) -> ReportConflictError:
    if place.reported:
        return ReportConflictError("this worker has reported in this cycle already; ask for the next one")
    return ReportConflictError("the report comes too late: its cycle is over; ask for the next one")
