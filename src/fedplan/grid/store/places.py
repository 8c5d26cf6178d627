"""Queries about the places of workers in several cycles, and for people who ask why nothing goes on."""

import asyncio
import dataclasses
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Row, func, or_, select

from fedplan.federation.over_selection import Held
from fedplan.grid.records import Cycle, Phase
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, cycles
from fedplan.wire.messages import worker_name

_CYCLES_LOOKED_AT = 20
"""Of a model's latest cycles, in how many a worker is looked for."""


@dataclasses.dataclass(frozen=True, slots=True)
class Silent:
    """Those workers of a cycle that it waits for.

    Attributes:
        count: how many.
        first: when the first of them took its place; None when there are none.
    """

    count: int
    first: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class Found:
    """The place of a worker that is looked for.

    Attributes:
        cycle: number of its cycle.
        phase: of the cycle.
        accepted_at: when the worker took the place.
        reported_at: when its report came; None when none did.
        released: see `records.Assignment`.
        aside: see `records.Assignment`.
        damaged: whether what was stored of its report was lost.
    """

    cycle: int
    phase: Phase
    accepted_at: float
    reported_at: float | None
    released: bool
    aside: bool
    damaged: bool


async def silent(db: Db, cycle_id: int) -> Silent:
    """The workers that have a place in a cycle, and have not reported."""
    query = select(func.count().label("places"), func.min(assignments.c.accepted_at).label("first")).where(
        assignments.c.cycle_id == cycle_id,
        assignments.c.reported_at.is_(None),
        assignments.c.released.is_(False),
        assignments.c.aside.is_(False),
    )
    row = (await db.execute(query)).one()
    return Silent(row.places, row.first)


async def taken_since(db: Db, identity: str, cycle: Cycle, since: float) -> list[float]:
    """When workers of an identity took those places in a model's other cycles that they did not leave.

    Args:
        db: the connection.
        identity: see `auth.Worker`.
        cycle: the model's latest one, which does not count.
        since: places that were taken before this time do not count.

    Returns:
        The times, the oldest first.
    """
    kept = or_(assignments.c.reported_at.is_not(None), ~assignments.c.released)
    query = (
        select(assignments.c.accepted_at)
        .join(cycles, cycles.c.id == assignments.c.cycle_id)
        .where(
            assignments.c.identity == identity,
            ~assignments.c.aside,
            assignments.c.accepted_at > since,
            assignments.c.cycle_id != cycle.id,
            cycles.c.process_id == cycle.process_id,
            kept,
        )
        .order_by(assignments.c.accepted_at)
    )
    return list(await db.scalars(query))


async def held(db: Db, cycle_id: int, wall_to_grid: float) -> list[Held]:
    """The places that a cycle gave for training.

    Args:
        db: the connection.
        cycle_id: the cycle.
        wall_to_grid: what is to be added to times on the wall, at which reports are noted.
    """
    query = select(assignments.c.accepted_at, assignments.c.reported_at).where(
        assignments.c.cycle_id == cycle_id, ~assignments.c.aside
    )
    rows = (await db.execute(query)).all()
    return [
        Held(row.accepted_at, None if row.reported_at is None else row.reported_at + wall_to_grid)
        for row in rows
    ]


async def find_by_name(db: Db, process_id: int, name: str, latest: int) -> Found | None:
    """The latest place of a worker in a model's last cycles, by its name in events.

    Args:
        db: a connection for what takes long.
        process_id: the model.
        name: the worker's name.
        latest: number of the model's latest cycle.
    """
    query = (
        select(assignments, cycles.c.number, cycles.c.phase)
        .join(cycles, cycles.c.id == assignments.c.cycle_id)
        .where(cycles.c.process_id == process_id, cycles.c.number > latest - _CYCLES_LOOKED_AT)
        .order_by(cycles.c.number.desc())
    )
    rows = (await db.execute(query)).all()

    def look() -> Row[Any] | None:
        return next((row for row in rows if worker_name(row.worker_id) == name), None)

    row = await asyncio.to_thread(look)
    return None if row is None else _read(row)


async def of_cycle(db: Db, cycle_id: int, most: int) -> Sequence[tuple[str, Found]]:
    """The places of a cycle, the newest first, with the names that their workers have in events.

    Args:
        db: a connection for what takes long.
        cycle_id: the cycle.
        most: how many at most.
    """
    query = (
        select(assignments, cycles.c.number, cycles.c.phase)
        .join(cycles, cycles.c.id == assignments.c.cycle_id)
        .where(assignments.c.cycle_id == cycle_id)
        .order_by(assignments.c.accepted_at.desc(), assignments.c.id.desc())
        .limit(most)
    )
    return [(worker_name(row.worker_id), _read(row)) for row in (await db.execute(query)).all()]


def _read(row: Row[Any]) -> Found:
    return Found(
        row.number,
        Phase(row.phase),
        row.accepted_at,
        row.reported_at,
        row.released,
        row.aside,
        row.damaged is not None,
    )
