"""Queries about what one replica at a time does for all, now and then."""

import dataclasses

from sqlalchemy import ColumnElement, and_, select, update

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import chores

SWEEP = "sweep"
"""Deleting what is not needed any more."""


@dataclasses.dataclass(frozen=True, slots=True)
class Chore:
    """A chore, and which replica is at it; see `records.Lease`.

    Attributes:
        name: which one.
        owner: the replica that is at it; None when none is.
        counter: is raised whenever it is taken or renewed.
        due_at: when it is to be done next, in the grid's time.
    """

    name: str
    owner: str | None
    counter: int
    due_at: float


async def read(db: Db, name: str) -> Chore:
    """A chore as it is."""
    row = (await db.execute(select(chores).where(chores.c.name == name))).one()
    return Chore(row.name, row.owner, row.counter, row.due_at)


async def take(db: Db, seen: Chore, owner: str) -> Chore | None:
    """Makes one replica the one that is at a chore, or lets it stay that; None when it is no more as seen."""
    taken = dataclasses.replace(seen, owner=owner, counter=seen.counter + 1)
    values = {"owner": taken.owner, "counter": taken.counter}
    changed = await db.execute(update(chores).where(_is(seen)).values(values))
    return taken if changed.rowcount == 1 else None


async def drop(db: Db, held: Chore, due_at: float) -> None:
    """Lets any replica do a chore when it is due."""
    await db.execute(update(chores).where(_is(held)).values(owner=None, due_at=due_at))


def _is(seen: Chore) -> ColumnElement[bool]:
    return and_(chores.c.name == seen.name, chores.c.owner == seen.owner, chores.c.counter == seen.counter)
