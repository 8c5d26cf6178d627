"""Queries about the ledger of privacy. Rows are only ever added."""

from collections.abc import Mapping, Sequence

from sqlalchemy import func, select

from fedplan.federation.privacy import Spending
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import spendings


async def of_process(db: Db, process_id: int) -> Sequence[Spending]:
    """What the cycles of an FL process have spent, the oldest first."""
    query = select(spendings.c.record).where(spendings.c.process_id == process_id)
    found = await db.scalars(query.order_by(spendings.c.cycle))
    return [Spending.from_json(record) for record in found]


async def latest(db: Db, process_id: int) -> Spending | None:
    """What the latest cycle has spent that has spent anything; its ε is that of all of them."""
    query = select(spendings.c.record).where(spendings.c.process_id == process_id)
    record = await db.scalar(query.order_by(spendings.c.cycle.desc()).limit(1))
    return None if record is None else Spending.from_json(record)


async def count(db: Db, process_id: int) -> int:
    """How many cycles have spent something."""
    query = select(func.count()).select_from(spendings).where(spendings.c.process_id == process_id)
    return await db.scalar(query) or 0


async def latest_of_all(db: Db) -> Mapping[int, tuple[Spending, int]]:
    """By the id of the FL process, `latest`, and how many cycles have spent something."""
    newest = (
        select(
            spendings.c.process_id,
            func.max(spendings.c.cycle).label("cycle"),
            func.count().label("cycles"),
        )
        .group_by(spendings.c.process_id)
        .subquery()
    )
    here = (spendings.c.process_id == newest.c.process_id) & (spendings.c.cycle == newest.c.cycle)
    rows = await db.execute(
        select(spendings.c.process_id, spendings.c.record, newest.c.cycles).join(newest, here)
    )
    return {row.process_id: (Spending.from_json(row.record), row.cycles) for row in rows}


async def add(db: Db, process_id: int, spending: Spending) -> None:
    """Adds what a cycle has spent, in the transaction that ends it."""
    values = {"process_id": process_id, "cycle": spending.cycle, "record": spending.to_json()}
    await db.execute(spendings.insert().values(values))
