"""Queries about the life of cycles: opening, deadlines, leases, ending."""

import asyncio
import dataclasses
from collections.abc import Sequence

from sqlalchemy import ColumnElement, and_, func, or_, select, update

from fedplan.errors import NotFoundError
from fedplan.federation import Task
from fedplan.federation.over_selection import DropOut
from fedplan.grid.records import Cycle, CycleSummary, Lease, Phase, Running
from fedplan.grid.store.connection import Db
from fedplan.grid.store.participation import read_cycle
from fedplan.grid.store.tables import assignments, checkpoints, cycles

_UNFINISHED = cycles.c.phase.in_((Phase.OPEN, Phase.CLOSING))
_TIMED = and_(cycles.c.phase == Phase.OPEN, cycles.c.paused_at.is_(None))
"""Those that their deadline closes, if they have one."""


async def numbered(db: Db, process_id: int, number: int) -> Cycle:
    """A cycle of an FL process by its number.

    Raises:
        NotFoundError: there is none, or none any more.
    """
    query = select(cycles).where(cycles.c.process_id == process_id, cycles.c.number == number)
    row = (await db.execute(query)).mappings().first()
    if row is None:
        raise NotFoundError(f"the model has no cycle {number}")
    return read_cycle(row)


async def open_cycle(
    db: Db,
    process_id: int,
    number: int,
    checkpoint_id: int,
    now: float,
    deadline: float | None,
    task: Task = Task.TRAINING,
    *,
    stage: str | None = None,
    revision: int = 0,
    places: int | None = None,
    paused_at: float | None = None,
) -> None:
    """Opens a cycle that starts from a checkpoint; see `Cycle` for the rest."""
    values = {
        "process_id": process_id,
        "number": number,
        "phase": Phase.OPEN,
        "checkpoint_id": checkpoint_id,
        "opened_at": now,
        "deadline": deadline,
        "occupied": 0,
        "reported": 0,
        "task": task,
        "stage": stage,
        "revision": revision,
        "places": places,
        "paused_at": paused_at,
    }
    await db.execute(cycles.insert(), values)


async def note_drop_out(db: Db, cycle_id: int, seen: DropOut) -> None:
    """Notes what a cycle tells of workers that drop out."""
    values = {"gone": seen.gone, "judged": seen.judged}
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(values))


async def drop_out(db: Db, process_id: int, latest: int) -> DropOut:
    """What so many of a model's latest cycles of training tell of workers that drop out."""
    query = (
        select(cycles.c.gone, cycles.c.judged)
        .where(cycles.c.process_id == process_id, cycles.c.task == Task.TRAINING)
        .order_by(cycles.c.number.desc())
        .limit(latest)
    )
    rows = (await db.execute(query)).all()
    return DropOut(sum(row.gone for row in rows), sum(row.judged for row in rows))


async def due(db: Db, now: float) -> Sequence[Lease]:
    """The leases of the cycles that wait to be closed, or whose deadline has passed."""
    overdue = and_(_TIMED, cycles.c.deadline <= now)
    query = select(cycles.c.id, cycles.c.lease_owner, cycles.c.lease_counter)
    found = await db.execute(query.where(or_(cycles.c.phase == Phase.CLOSING, overdue)).order_by(cycles.c.id))
    return [Lease(row.id, row.lease_owner, row.lease_counter) for row in found]


async def running(db: Db) -> Sequence[Running]:
    """The cycles that have not ended."""
    columns = (getattr(cycles.c, field.name) for field in dataclasses.fields(Running))
    found = (await db.execute(select(*columns).where(_UNFINISHED))).mappings()
    return [Running(**{**row, "phase": Phase(row["phase"]), "task": Task(row["task"])}) for row in found]


async def unfinished(db: Db) -> Sequence[int]:
    """The ids of the cycles that have not ended."""
    return list(await db.scalars(select(cycles.c.id).where(_UNFINISHED)))


async def ended(db: Db, cycle_ids: Sequence[int]) -> Sequence[int]:
    """Those of some cycles that have ended, or were deleted."""
    if not cycle_ids:
        return []
    going = set(await db.scalars(select(cycles.c.id).where(cycles.c.id.in_(cycle_ids), _UNFINISHED)))
    return [id for id in cycle_ids if id not in going]


async def next_deadline(db: Db, now: float) -> float | None:
    """The earliest deadline that is to come."""
    coming = select(func.min(cycles.c.deadline)).where(_TIMED, cycles.c.deadline > now)
    earliest: float | None = await db.scalar(coming)
    return earliest


async def pause(db: Db, cycle_id: int, now: float) -> None:
    """Lets no time pass for a cycle, and none of its places lapse, from now on."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(paused_at=now))


async def resume(db: Db, cycle: Cycle, now: float) -> None:
    """Lets time pass again for a paused cycle: as much is left of everything as when it was paused."""
    seconds = now - (now if cycle.paused_at is None else cycle.paused_at)
    values = {"paused_at": None, "deadline": cycles.c.deadline + seconds}
    await db.execute(update(cycles).where(cycles.c.id == cycle.id).values(values))
    places = update(assignments).where(
        assignments.c.cycle_id == cycle.id, assignments.c.reported_at.is_(None)
    )
    await db.execute(places.values(accepted_at=assignments.c.accepted_at + seconds))


async def order_end(db: Db, cycle_id: int, ends: bool | None) -> None:
    """Notes whether the training ends with a cycle; see `Cycle.ordered_end`."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(ordered_end=ends))


async def add_time(db: Db, cycle_id: int, seconds: float) -> float | None:
    """Moves the deadline of a cycle, paused or not; returns what it is then."""
    later = update(cycles).where(cycles.c.id == cycle_id).values(deadline=cycles.c.deadline + seconds)
    deadline: float | None = await db.scalar(later.returning(cycles.c.deadline))
    return deadline


async def drop_cycle(db: Db, cycle_id: int, now: float, why: str) -> None:
    """Ends a locked cycle as a failed one, whoever is closing it: what comes of that is not written."""
    values = {
        "phase": Phase.FAILED,
        "failure": why,
        "closed_at": now,
        "lease_owner": None,
        "lease_counter": cycles.c.lease_counter + 1,
    }
    await db.execute(update(cycles).where(cycles.c.id == cycle_id, _UNFINISHED).values(values))


async def set_closing(db: Db, cycle_id: int) -> None:
    """Stops a cycle from taking workers and reports."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(phase=Phase.CLOSING))


async def reopen(db: Db, cycle_id: int) -> None:
    """Lets a closing cycle take workers and reports again."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(phase=Phase.OPEN))


async def extend(db: Db, cycle_id: int, deadline: float | None) -> None:
    """Moves a cycle's deadline."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(deadline=deadline))


async def history(db: Db, process_id: int, after: int = 0) -> Sequence[tuple[Cycle, int]]:
    """The cycles of an FL process that have ended, oldest first, each with the number of its checkpoint.

    Args:
        db: a connection for what takes long.
        process_id: the FL process.
        after: only those with greater numbers.
    """
    query = (
        select(cycles, checkpoints.c.number.label("started_from"))
        .join(checkpoints, checkpoints.c.id == cycles.c.checkpoint_id)
        .where(
            cycles.c.process_id == process_id,
            cycles.c.phase.in_((Phase.DONE, Phase.FAILED)),
            cycles.c.number > after,
        )
        .order_by(cycles.c.number)
    )
    rows = (await db.execute(query)).mappings()
    return await asyncio.to_thread(lambda: [(read_cycle(row), row["started_from"]) for row in rows])


async def take_lease(db: Db, seen: Lease, owner: str) -> Lease | None:
    """Makes one replica the one that closes a cycle, or lets it stay that.

    Returns:
        The lease as it is then; None when it is no more as it was seen, and nothing is changed.
    """
    taken = Lease(seen.cycle_id, owner, seen.counter + 1)
    values = {"lease_owner": taken.owner, "lease_counter": taken.counter}
    changed = await db.execute(update(cycles).where(_is(seen), _UNFINISHED).values(values))
    return taken if changed.rowcount == 1 else None


async def drop_lease(db: Db, held: Lease) -> None:
    """Lets any replica close a cycle. The counter stays: a lease of before must not be good again."""
    await db.execute(update(cycles).where(_is(held)).values(lease_owner=None))


def _is(lease: Lease) -> ColumnElement[bool]:
    return and_(
        cycles.c.id == lease.cycle_id,
        cycles.c.lease_owner == lease.owner,  # IS NULL, for None
        cycles.c.lease_counter == lease.counter,
    )


async def end_cycle(
    db: Db,
    held: Lease,
    now: float,
    *,
    failure: str | None = None,
    summary: CycleSummary | None = None,
) -> bool:
    """Ends a closing cycle, with a failure or without; it says what else came of it.

    Returns:
        False when the lease was lost meanwhile, and nothing may be written.
    """
    values = {
        "phase": Phase.DONE if failure is None else Phase.FAILED,
        "failure": failure,
        "summary": None if summary is None else summary.to_json(),
        "closed_at": now,
        "lease_owner": None,
    }
    ended = update(cycles).where(_is(held), cycles.c.phase == Phase.CLOSING).values(values)
    return (await db.execute(ended)).rowcount == 1
