"""What a worker in a cycle may download: the model that the cycle starts from, Plans, Protocols."""

import dataclasses
import hashlib
from collections.abc import AsyncIterator

from fedplan.errors import AccessDeniedError, NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Phase
from fedplan.grid.service.access import find_place
from fedplan.wire.messages import DownloadRequest, ModelRequest, PlanRequest, ProtocolRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way out.

    Attributes:
        size: how many.
        content: the bytes, whole or in pieces.
        tag: tells these bytes from all others, for clients that keep them; None for what nobody keeps.
    """

    size: int
    content: bytes | AsyncIterator[bytes]
    tag: str | None = None


async def get_model(grid: Grid, request: ModelRequest) -> Download:
    """The State that the worker's cycle starts from.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle starts from another model.
    """
    cycle = await _open_cycle(grid, request)
    if cycle.checkpoint_id != request.model_id:
        raise NotFoundError(f"the cycle has no model {request.model_id}")
    checkpoint = await grid.known.checkpoint(request.model_id)
    return await fetch(grid, checkpoint.blob)


async def get_plan(grid: Grid, request: PlanRequest) -> Download:
    """A Plan of the worker's cycle, in one of its variants.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Plan, or the Plan no such variant.
    """
    cycle = await _open_cycle(grid, request)
    hosted = await grid.known.hosted(cycle.process_id)
    forms = next((plan.variants for plan in hosted.plans.values() if plan.id == request.plan_id), None)
    if forms is None:
        raise NotFoundError(f"the cycle has no Plan {request.plan_id}")
    variant = request.receive_operations_as
    if variant not in forms:
        raise NotFoundError(
            f"the Plan {request.plan_id} was not hosted as {variant}; it is there as {', '.join(forms)}"
        )
    return await fetch(grid, forms[variant].content)


async def get_protocol(grid: Grid, request: ProtocolRequest) -> Download:
    """A Protocol of the worker's cycle.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Protocol.
    """
    cycle = await _open_cycle(grid, request)
    hosted = await grid.known.hosted(cycle.process_id)
    blob = next((one.blob for one in hosted.protocols.values() if one.id == request.protocol_id), None)
    if blob is None:
        raise NotFoundError(f"the cycle has no Protocol {request.protocol_id}")
    return await fetch(grid, blob)


async def fetch(grid: Grid, blob: str) -> Download:
    """A blob as a download."""
    tag = hashlib.sha256(blob.encode()).hexdigest()[:32]  # a blob is never written again
    data = await grid.blobs.recall(blob)
    if data is None:
        return Download(*await grid.blobs.stream(blob), tag)
    return Download(len(data), data, tag)


async def _open_cycle(grid: Grid, request: DownloadRequest) -> Cycle:
    async with grid.store.reading() as db:
        _, cycle = await find_place(db, request.worker_id, request.request_key)
    if cycle.phase is not Phase.OPEN:
        raise AccessDeniedError("the worker's cycle is over; ask for the next one")
    return cycle
