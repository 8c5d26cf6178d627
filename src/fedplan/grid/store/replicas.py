"""Queries about the replicas of a grid: which of them live, and which reports each of them adds up."""

from collections.abc import Collection, Mapping

from sqlalchemy import ColumnElement, and_, delete, func, or_, select, update

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, replicas


async def announce(db: Db, name: str) -> None:
    """Tells the others that a replica lives."""
    raised = update(replicas).where(replicas.c.name == name).values(counter=replicas.c.counter + 1)
    if (await db.execute(raised)).rowcount == 0:
        await db.execute(replicas.insert(), {"name": name, "counter": 0})


async def leave(db: Db, name: str) -> None:
    """Tells the others that a replica ends."""
    await db.execute(delete(replicas).where(replicas.c.name == name))


async def counters(db: Db) -> Mapping[str, int]:
    """The counter of each replica that has not ended in order."""
    return {row.name: row.counter for row in await db.execute(select(replicas))}


async def forget(db: Db, gone: Mapping[str, int]) -> None:
    """Forgets replicas whose counters are still those that are given."""
    for name, counter in gone.items():
        await db.execute(delete(replicas).where(replicas.c.name == name, replicas.c.counter == counter))


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
