"""Queries about the replicas of a grid: which of them live, and which reports each of them adds up."""

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, replicas


async def announce(db: Db, name: str, now: float, until: float) -> None:
    """Tells the others that a replica lives, until a time; forgets those that told nothing for too long."""
    await db.execute(delete(replicas).where(or_(replicas.c.name == name, replicas.c.until <= now)))
    await db.execute(replicas.insert(), {"name": name, "until": until})


async def leave(db: Db, name: str) -> None:
    """Tells the others that a replica ends."""
    await db.execute(delete(replicas).where(replicas.c.name == name))


async def living(db: Db, now: float) -> frozenset[str]:
    """The names of all that live."""
    return frozenset(await db.scalars(select(replicas.c.name).where(replicas.c.until > now)))


async def reports_of_each(db: Db, cycle_id: int) -> Mapping[str | None, int]:
    """How many of a cycle's reports each replica adds up; None for those of which that is not known."""
    query = select(assignments.c.replica, func.count().label("reports")).where(_in_sum(cycle_id))
    found = await db.execute(query.group_by(assignments.c.replica))
    return {row.replica: row.reports for row in found}


async def adopt(db: Db, cycle_id: int, name: str, living: Collection[str]) -> None:
    """Gives a replica those of a cycle's reports that no living one adds up."""
    gone = or_(assignments.c.replica.is_(None), assignments.c.replica.not_in(living))
    await db.execute(update(assignments).where(_in_sum(cycle_id), gone).values(replica=name))


def _in_sum(cycle_id: int) -> ColumnElement[bool]:
    return and_(
        assignments.c.counted_in == cycle_id, assignments.c.diff.is_not(None), assignments.c.aside.is_(False)
    )
