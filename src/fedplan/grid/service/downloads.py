"""What a worker in a cycle may download: the model that the cycle starts from, Plans, Protocols."""

import dataclasses
import hashlib
from collections.abc import AsyncIterator

from fedplan.errors import AccessDeniedError, NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Phase
from fedplan.grid.service.access import find_place
from fedplan.wire.encoding import ZSTD
from fedplan.wire.messages import DownloadRequest, ModelRequest, PlanRequest, ProtocolRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way out.

    Attributes:
        size: how many.
        content: the bytes, whole or in pieces.
        encoding: the content coding that they are in; None when they are plain.
    """

    size: int
    content: bytes | AsyncIterator[bytes]
    encoding: str | None = None


async def get_model(grid: Grid, request: ModelRequest) -> str:
    """The State that the worker's cycle starts from.

    Returns:
        The key of its blob.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle starts from another model.
    """
    cycle = await _open_cycle(grid, request)
    if cycle.checkpoint_id != request.model_id:
        raise NotFoundError(f"the cycle has no model {request.model_id}")
    checkpoint = await grid.known.checkpoint(request.model_id)
    return checkpoint.blob


async def get_plan(grid: Grid, request: PlanRequest) -> str:
    """A Plan of the worker's cycle, in one of its variants.

    Returns:
        The key of its blob.

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
    return forms[variant].content


async def get_protocol(grid: Grid, request: ProtocolRequest) -> str:
    """A Protocol of the worker's cycle.

    Returns:
        The key of its blob.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Protocol.
    """
    cycle = await _open_cycle(grid, request)
    hosted = await grid.known.hosted(cycle.process_id)
    blob = next((one.blob for one in hosted.protocols.values() if one.id == request.protocol_id), None)
    if blob is None:
        raise NotFoundError(f"the cycle has no Protocol {request.protocol_id}")
    return blob


def tag_of(blob: str, encoding: str | None = None) -> str:
    """Tells a blob's bytes, plain or in a content coding, from all others, for clients that keep them."""
    digest = hashlib.sha256(blob.encode()).hexdigest()[:32]  # a blob is never written again
    return digest if encoding is None else f"{digest}-{encoding}"


async def fetch(grid: Grid, blob: str, *, zstd: bool) -> Download:
    """A blob as a download.

    Args:
        grid: where it is.
        blob: its key.
        zstd: whether it may be sent as zstd. That is done where it pays, and the blob is small enough to be
            remembered: larger ones would have to be compressed again for each download.
    """
    data = await grid.blobs.recall(blob)
    if data is None:
        return Download(*await grid.blobs.stream(blob))
    smaller = await grid.blobs.recall_zstd(blob, data) if zstd else None
    if smaller is None:
        return Download(len(data), data)
    return Download(len(smaller), smaller, ZSTD)


async def _open_cycle(grid: Grid, request: DownloadRequest) -> Cycle:
    async with grid.store.reading() as db:
        _, cycle = await find_place(db, request.worker_id, request.request_key)
    if cycle.phase is not Phase.OPEN:
        raise AccessDeniedError("the worker's cycle is over; ask for the next one")
    return cycle
