"""What a worker in a cycle may download: the model that the cycle starts from, Plans, Protocols."""

import dataclasses
import functools
import hashlib
from collections.abc import AsyncIterator

from fedplan.errors import AccessDeniedError, NotFoundError
from fedplan.grid.blobs.storage import Stream
from fedplan.grid.blobs.whole import joined
from fedplan.grid.grid import Grid
from fedplan.grid.records import Checkpoint, Cycle, Phase, Process
from fedplan.grid.service.access import find_place
from fedplan.wire.encoding import ZSTD
from fedplan.wire.messages import DownloadRequest, ModelRequest, PlanRequest, ProtocolRequest


@dataclasses.dataclass(frozen=True, slots=True)
class Source:
    """What may be downloaded, as it is stored.

    Attributes:
        blob: key of its blob.
        frozen: of a whole model some of whose tensors are frozen, key of their State; `blob` has the others.
        changes: then, of each tensor of the model, whether it is one of the others.
    """

    blob: str
    frozen: str | None = None
    changes: tuple[bool, ...] = ()

    @property
    def name(self) -> str:
        """Tells it from all others: a blob is never written again."""
        return self.blob if self.frozen is None else f"{self.frozen}+{self.blob}"


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


async def get_model(grid: Grid, request: ModelRequest) -> Source:
    """The State that the worker's cycle starts from, or a part of it.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle starts from another model, or nothing of it is frozen.
    """
    cycle = await _open_cycle(grid, request)
    if cycle.checkpoint_id != request.model_id:
        raise NotFoundError(f"the cycle has no model {request.model_id}")
    checkpoint = await grid.known.checkpoint(request.model_id)
    process = (await grid.known.hosted(cycle.process_id)).process
    if request.part is None:
        return whole_model(process, checkpoint)
    if request.part == "changing":
        return Source(checkpoint.blob)
    if process.frozen is None:
        raise NotFoundError("no tensor of the model is frozen")
    return Source(process.frozen)


def whole_model(process: Process, checkpoint: Checkpoint) -> Source:
    """All tensors of a checkpoint."""
    if process.changing is None:
        return Source(checkpoint.blob)
    changing = set(process.changing)
    changes = tuple(place in changing for place in range(len(process.layout)))
    return Source(checkpoint.blob, process.frozen, changes)


async def get_plan(grid: Grid, request: PlanRequest) -> Source:
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
    return Source(forms[variant].content)


async def get_protocol(grid: Grid, request: ProtocolRequest) -> Source:
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
    return Source(blob)


def tag_of(source: Source, encoding: str | None = None) -> str:
    """Tells a download's bytes, plain or in a content coding, from all others, for clients that keep them."""
    digest = hashlib.sha256(source.name.encode()).hexdigest()[:32]
    return digest if encoding is None else f"{digest}-{encoding}"


async def fetch(grid: Grid, source: Source, *, zstd: bool) -> Download:
    """What is to be downloaded.

    Args:
        grid: where it is.
        source: what it is.
        zstd: whether it may be sent as zstd. That is done where it pays, and the blob is small enough to be
            remembered: larger ones would have to be compressed again for each download.
    """
    data = await grid.blobs.recall(source.name, functools.partial(_open, grid, source))
    if not isinstance(data, bytes):
        return Download(*data)
    smaller = await grid.blobs.recall_zstd(source.name, data) if zstd else None
    if smaller is None:
        return Download(len(data), data)
    return Download(len(smaller), smaller, ZSTD)


async def _open(grid: Grid, source: Source) -> Stream:
    found = await grid.blobs.stream(source.blob)
    if source.frozen is None:
        return found
    return await joined(await grid.blobs.stream(source.frozen), found, source.changes)


async def _open_cycle(grid: Grid, request: DownloadRequest) -> Cycle:
    async with grid.store.reading() as db:
        _, cycle = await find_place(db, request.worker_id, request.request_key)
    if cycle.phase is not Phase.OPEN:
        raise AccessDeniedError("the worker's cycle is over; ask for the next one")
    return cycle
