"""Queries about webhooks: up to which event each has been told, and which replica tells it."""

import dataclasses

from sqlalchemy import and_, select, update
from sqlalchemy.dialects import postgresql, sqlite

from fedplan.grid.observing.events import Position
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import webhooks


@dataclasses.dataclass(frozen=True, slots=True)
class Webhook:
    """How far a webhook is, and which replica is at it; see `records.Lease`.

    Attributes:
        name: of its address: the SHA-256 in hexadecimal digits, for an address may hold a password.
        owner: the replica that tells it something at present; None when none does.
        counter: is raised whenever it is taken.
        position: of the last event that it was told.
        failures: how often in succession it could not be told the next ones.
        due_at: when it is to be tried next, in the grid's time.
    """

    name: str
    owner: str | None
    counter: int
    position: Position
    failures: int
    due_at: float


async def begin(db: Db, name: str, position: Position) -> None:
    """Makes a webhook that is told what comes behind a position; one that is there stays as it is."""
    insert = postgresql.insert if db.dialect.name == "postgresql" else sqlite.insert
    values = {"name": name, "counter": 0, "position": str(position), "failures": 0, "due_at": 0.0}
    await db.execute(insert(webhooks).values(values).on_conflict_do_nothing(index_elements=["name"]))


async def read(db: Db, name: str) -> Webhook:
    """A webhook as it is."""
    row = (await db.execute(select(webhooks).where(webhooks.c.name == name))).one()
    position = Position.parse(row.position)
    return Webhook(row.name, row.owner, row.counter, position, row.failures, row.due_at)


async def take(db: Db, seen: Webhook, owner: str) -> Webhook | None:
    """Makes one replica the one that tells a webhook; None when it is no more as it was seen."""
    taken = dataclasses.replace(seen, owner=owner, counter=seen.counter + 1)
    return taken if await _written(db, seen, taken) else None


async def give_back(db: Db, held: Webhook, after: Webhook) -> bool:
    """Lets any replica tell a webhook, and notes how far it is; False when the lease was lost."""
    return await _written(db, held, dataclasses.replace(after, owner=None))


async def _written(db: Db, seen: Webhook, after: Webhook) -> bool:
    is_as_seen = and_(
        webhooks.c.name == seen.name, webhooks.c.owner == seen.owner, webhooks.c.counter == seen.counter
    )
    values = {
        "owner": after.owner,
        "counter": after.counter,
        "position": str(after.position),
        "failures": after.failures,
        "due_at": after.due_at,
    }
    return (await db.execute(update(webhooks).where(is_as_seen).values(values))).rowcount == 1
