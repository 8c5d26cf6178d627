"""Queries that delete a model, and that remember which blobs are still to be deleted."""

from collections.abc import Collection, Sequence

from sqlalchemy import delete, select, union

from fedplan.grid.store.connection import Db
from fedplan.grid.store.naming import NAMING
from fedplan.grid.store.tables import (
    assignments,
    checkpoints,
    configs,
    cycles,
    plan_variants,
    plans,
    processes,
    protocols,
    secure_messages,
    secure_rounds,
    spendings,
    unused_blobs,
    waiting,
)


async def delete_process(db: Db, process_id: int) -> None:
    """Deletes all rows of an FL process, and notes its blobs as unused."""
    its_cycles = select(cycles.c.id).where(cycles.c.process_id == process_id)
    its_plans = select(plans.c.id).where(plans.c.process_id == process_id)
    rows_of_table = {
        checkpoints: checkpoints.c.process_id == process_id,
        plan_variants: plan_variants.c.plan_id.in_(its_plans),
        processes: processes.c.id == process_id,
        protocols: protocols.c.process_id == process_id,
    }
    named = (column for kind, columns in NAMING.items() if kind != "diffs" for column, _ in columns)
    blobs = union(  # diffs go by their cycles
        *(select(column).where(rows_of_table[column.table], column.is_not(None)) for column in named)
    )
    await db.execute(unused_blobs.insert().from_select(["key"], blobs))
    for said in (secure_messages, secure_rounds):
        await db.execute(delete(said).where(said.c.cycle_id.in_(its_cycles)))
    await db.execute(delete(assignments).where(assignments.c.cycle_id.in_(its_cycles)))
    await db.execute(delete(plan_variants).where(plan_variants.c.plan_id.in_(its_plans)))
    for table in (waiting, cycles, checkpoints, plans, protocols, configs, spendings):
        await db.execute(delete(table).where(table.c.process_id == process_id))
    await db.execute(delete(processes).where(processes.c.id == process_id))


async def unused(db: Db) -> Sequence[str]:
    """The keys of blobs that are still to be deleted."""
    return list(await db.scalars(select(unused_blobs.c.key)))


async def forget_unused(db: Db, keys: Collection[str]) -> None:
    """Forgets blobs that are deleted."""
    for key in keys:
        await db.execute(delete(unused_blobs).where(unused_blobs.c.key == key))
