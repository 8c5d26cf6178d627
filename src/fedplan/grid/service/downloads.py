"""What a worker in a cycle may download: the model that the cycle starts from, Plans, Protocols."""

import dataclasses
from collections.abc import AsyncIterator

from fedplan.errors import AccessDeniedError, NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Phase
from fedplan.grid.service.access import find_place
from fedplan.grid.store import catalogue
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import DownloadRequest, ModelRequest, PlanRequest, ProtocolRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way out.

    Attributes:
        size: how many.
        pieces: the bytes.
    """

    size: int
    pieces: AsyncIterator[bytes]


async def get_model(grid: Grid, request: ModelRequest) -> Download:
    """The State that the worker's cycle starts from.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle starts from another model.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, request)
        if cycle.checkpoint_id != request.model_id:
            raise NotFoundError(f"the cycle has no model {request.model_id}")
        checkpoint = await catalogue.get_checkpoint(db, request.model_id)
    return await fetch(grid, checkpoint.blob)


async def get_plan(grid: Grid, request: PlanRequest) -> Download:
    """A Plan of the worker's cycle, in one of its variants.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Plan, or the Plan no such variant.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, request)
        blobs = await catalogue.plan_blobs(db, cycle.process_id, request.plan_id)
    if not blobs:
        raise NotFoundError(f"the cycle has no Plan {request.plan_id}")
    variant = request.receive_operations_as
    if variant not in blobs:
        raise NotFoundError(
            f"the Plan {request.plan_id} was not hosted as {variant}; it is there as {', '.join(blobs)}"
        )
    return await fetch(grid, blobs[variant])


async def get_protocol(grid: Grid, request: ProtocolRequest) -> Download:
    """A Protocol of the worker's cycle.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Protocol.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, request)
        blob = await catalogue.protocol_blob(db, cycle.process_id, request.protocol_id)
    if blob is None:
        raise NotFoundError(f"the cycle has no Protocol {request.protocol_id}")
    return await fetch(grid, blob)


async def fetch(grid: Grid, blob: str) -> Download:
    """A blob as a download."""
    return Download(*await grid.blobs.stream(blob))


async def _open_cycle(db: Db, request: DownloadRequest) -> Cycle:
    _, cycle = await find_place(db, request.worker_id, request.request_key)
    if cycle.phase is not Phase.OPEN:
        raise AccessDeniedError("the worker's cycle is over; ask for the next one")
    return cycle
