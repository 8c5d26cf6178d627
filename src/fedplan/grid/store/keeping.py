"""Queries about what of a model is kept, and what may be deleted."""

from collections.abc import Sequence

from sqlalchemy import exists, select, update

from fedplan.grid.records import Checkpoint, Phase
from fedplan.grid.store.catalogue import read_checkpoint
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, checkpoints, cycles, processes

_ENDED = cycles.c.phase.in_((Phase.DONE, Phase.FAILED))


async def process_ids(db: Db) -> Sequence[int]:
    """The ids of all FL processes."""
    return list(await db.scalars(select(processes.c.id).order_by(processes.c.id)))


async def checkpoints_there(db: Db, process_id: int) -> Sequence[Checkpoint]:
    """The checkpoints of an FL process that were not deleted, oldest first."""
    query = (
        select(checkpoints)
        .where(checkpoints.c.process_id == process_id, checkpoints.c.deleted_at.is_(None))
        .order_by(checkpoints.c.number)
    )
    return [read_checkpoint(row) for row in (await db.execute(query)).mappings()]


async def begun_from(db: Db, process_id: int) -> set[int]:
    """The ids of the checkpoints from which cycles started that have not ended."""
    running = select(cycles.c.checkpoint_id).where(cycles.c.process_id == process_id, ~_ENDED)
    return set(await db.scalars(running))


async def note_deleted(db: Db, ids: Sequence[int], now: float) -> None:
    """Notes that checkpoints are deleted. Their rows stay."""
    for id in ids:
        await db.execute(update(checkpoints).where(checkpoints.c.id == id).values(deleted_at=now))


async def cycles_with_diffs(db: Db, process_id: int, beyond: int) -> Sequence[int]:
    """The ids of the ended cycles of an FL process whose diffs are kept, but for the latest few.

    Args:
        db: the connection, for what takes long.
        process_id: the FL process.
        beyond: how many of the latest are left out.
    """
    kept = exists().where(assignments.c.counted_in == cycles.c.id, assignments.c.diff.is_not(None))
    query = select(cycles.c.id).where(cycles.c.process_id == process_id, _ENDED, kept)
    return list(await db.scalars(query.order_by(cycles.c.number.desc())))[beyond:]


async def processes_of(db: Db, cycle_ids: Sequence[int]) -> dict[int, int]:
    """By the ids of cycles that there are, the ids of their FL processes."""
    if not cycle_ids:
        return {}
    query = select(cycles.c.id, cycles.c.process_id).where(cycles.c.id.in_(cycle_ids))
    return {row.id: row.process_id for row in await db.execute(query)}
