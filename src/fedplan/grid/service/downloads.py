"""What a worker in a cycle may download: the model that the cycle starts from, Plans, Protocols."""

import dataclasses
from collections.abc import AsyncIterator

from sqlalchemy.ext.asyncio import AsyncConnection

from fedplan.errors import AccessDeniedError, NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Phase
from fedplan.grid.service.access import find_place
from fedplan.grid.store import catalogue


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """Bytes on their way out.

    Attributes:
        size: how many.
        pieces: the bytes.
    """

    size: int
    pieces: AsyncIterator[bytes]


async def get_model(grid: Grid, worker_id: str, request_key: str, model_id: int) -> Download:
    """The State that the worker's cycle starts from.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle starts from another model.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, worker_id, request_key)
        if cycle.checkpoint_id != model_id:
            raise NotFoundError(f"the cycle has no model {model_id}")
        checkpoint = await catalogue.get_checkpoint(db, model_id)
    return await fetch(grid, checkpoint.blob)


async def get_plan(grid: Grid, worker_id: str, request_key: str, plan_id: int, variant: str) -> Download:
    """A Plan of the worker's cycle, in one of its variants.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Plan, or the Plan no such variant.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, worker_id, request_key)
        blobs = await catalogue.plan_blobs(db, cycle.process_id, plan_id)
    if not blobs:
        raise NotFoundError(f"the cycle has no Plan {plan_id}")
    if variant not in blobs:
        raise NotFoundError(
            f"the Plan {plan_id} was not hosted as {variant}; it is there as {', '.join(blobs)}"
        )
    return await fetch(grid, blobs[variant])


async def get_protocol(grid: Grid, worker_id: str, request_key: str, protocol_id: int) -> Download:
    """A Protocol of the worker's cycle.

    Raises:
        AccessDeniedError: the key is not the worker's, or its cycle is over.
        NotFoundError: the cycle has no such Protocol.
    """
    async with grid.store.reading() as db:
        cycle = await _open_cycle(db, worker_id, request_key)
        blob = await catalogue.protocol_blob(db, cycle.process_id, protocol_id)
    if blob is None:
        raise NotFoundError(f"the cycle has no Protocol {protocol_id}")
    return await fetch(grid, blob)


async def fetch(grid: Grid, blob: str) -> Download:
    """A blob as a download."""
    return Download(*await grid.blobs.stream(blob))


async def _open_cycle(db: AsyncConnection, worker_id: str, request_key: str) -> Cycle:
    _, cycle = await find_place(db, worker_id, request_key)
    if cycle.phase is not Phase.OPEN:
        raise AccessDeniedError("the worker's cycle is over; ask for the next one")
    return cycle
