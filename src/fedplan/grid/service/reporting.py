"""How a worker's diff comes in: checked, on disk, counted, and only then acknowledged."""

import asyncio
import binascii
import logging
from collections.abc import Collection

from fedplan.aggregate import Layout, Tensors, apply, largest_diff, misfit
from fedplan.errors import AggregationError, DiffRefusedError, GridError, ReportConflictError, WireError
from fedplan.grid import cycles
from fedplan.grid.grid import Grid
from fedplan.grid.records import Assignment, Cycle, Phase, Process
from fedplan.grid.service.access import find_place
from fedplan.grid.store import catalogue, participation, rounds
from fedplan.wire import State
from fedplan.wire.compression import decompress
from fedplan.wire.messages import ReportRequest, Success

logger = logging.getLogger(__name__)


async def report(grid: Grid, request: ReportRequest) -> Success:
    """Takes a worker's diff into its cycle.

    A diff that is refused does not use up the request key: the worker may send a good one.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        ReportConflictError: the worker has reported already, or its cycle is over.
        DiffRefusedError: the diff is not base64 of a State that fits the model.
    """
    try:
        await _take(grid, request)
    except GridError as error:
        grid.metrics.reports.labels("refused").inc()
        logger.info("a report was refused: %s", error)
        raise
    grid.metrics.reports.labels("accepted").inc()
    return Success()


async def _take(grid: Grid, request: ReportRequest) -> None:
    async with grid.store.reading() as db:
        place, cycle = await find_place(db, request.worker_id, request.request_key)
        _check_open(place, cycle)
        process = await catalogue.get_process(db, cycle.process_id)
        start = await catalogue.get_checkpoint(db, cycle.checkpoint_id)
    async with grid.diff_readers:
        model = await grid.blobs.get(start.blob)
        taken = process.server_config.report_formats
        data = await asyncio.to_thread(read_diff, request.diff, process.layout, model, taken)
    blob = await grid.blobs.put("diffs", data)
    try:
        await _count(grid, request, process, cycle.id, blob)
    except GridError:
        await grid.blobs.delete(blob)
        raise


async def _count(grid: Grid, request: ReportRequest, process: Process, cycle_id: int, blob: str) -> None:
    """Adds the report to its cycle, and lets the cycle close when it has all it needs."""
    now = grid.clock()
    async with grid.store.writing() as db:
        await participation.get_cycle(db, cycle_id, lock=True)  # from here on nobody else changes it
        place, cycle = await find_place(db, request.worker_id, request.request_key)
        _check_open(place, cycle)
        cycle = await participation.add_report(db, place, blob, now)
        complete = cycles.is_complete(process.server_config, cycle, now)
        if complete:
            await rounds.set_closing(db, cycle.id)
    if complete:
        grid.closable.set()


def read_diff(text: str, layout: Layout, model: bytes, formats: Collection[str] = ()) -> bytes:
    """The State in a report, checked against the model.

    Args:
        text: base64; white space in it is no fault.
        layout: the model's.
        model: the State that the worker trained.
        formats: in what the model takes diffs besides float32.

    Raises:
        DiffRefusedError: it is not base64, not a State, too large, or does not fit the model.
    """
    if len(text) > 2 * largest_diff(layout):  # with the white space that some clients put in
        raise DiffRefusedError("the diff is far larger than one of this model can be")
    try:
        data = binascii.a2b_base64("".join(text.split()), strict_mode=True)
        diff = decompress(State.parse(data), [shape for shape, _ in layout], formats)
        reason = misfit(diff, layout) or _overflow(diff, model)
    except ValueError:  # binascii.Error is one, and so is text that is not ASCII
        raise DiffRefusedError("the diff is not base64") from None
    except WireError as error:
        raise DiffRefusedError(f"the diff cannot be read: {error}") from None
    if reason is not None:
        raise DiffRefusedError(f"the diff does not fit the model: {reason}")
    return data


def _overflow(diff: Tensors, model: bytes) -> str | None:
    """Why the model that the worker trained cannot exist, if so.

    The mean of models that can exist is one too: so no single diff makes a cycle's average unusable.
    """
    try:
        apply(State.parse(model).tensors, diff)
    except AggregationError as error:
        return str(error)
    return None


def _check_open(place: Assignment, cycle: Cycle) -> None:
    if place.reported:
        raise ReportConflictError("this worker has reported in this cycle already; ask for the next one")
    if cycle.phase is not Phase.OPEN:
        raise ReportConflictError("the report comes too late: its cycle is over; ask for the next one")
