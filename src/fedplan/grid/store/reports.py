"""Queries about the reports of a cycle."""

from collections.abc import Sequence

from sqlalchemy import and_, func, select, update

from fedplan.grid.records import Cycle, Report
from fedplan.grid.store.connection import Db
from fedplan.grid.store.participation import read_cycle
from fedplan.grid.store.tables import assignments, checkpoints, cycles

_MOST_AT_ONCE = 1000
"""Blobs named in one statement; databases bound how many values one may hold."""


async def of_cycle(
    db: Db, cycle_id: int, *, aside: bool = False, replica: str | None = None
) -> Sequence[Report]:
    """The reports that a cycle received, in the order in which the workers joined.

    Args:
        db: the connection.
        cycle_id: the cycle.
        aside: those of places for evaluation alone in a cycle of training, in place of the others.
        replica: those only that this replica adds up.
    """
    given, counted = cycles.alias("given"), cycles.alias("counted")
    before, after = checkpoints.alias("before"), checkpoints.alias("after")
    query = (
        select(assignments.c.diff, (after.c.number - before.c.number).label("staleness"))
        .join(given, given.c.id == assignments.c.cycle_id)
        .join(counted, counted.c.id == assignments.c.counted_in)
        .join(before, before.c.id == given.c.checkpoint_id)
        .join(after, after.c.id == counted.c.checkpoint_id)
        .where(
            assignments.c.counted_in == cycle_id,
            assignments.c.diff.is_not(None),
            assignments.c.aside.is_(aside),
        )
        .order_by(assignments.c.id)
    )
    if replica is not None:
        query = query.where(assignments.c.replica == replica)
    return [Report(row.diff, row.staleness) for row in await db.execute(query)]


async def recorded(db: Db, cycle_id: int) -> int:
    """How many reports the average of a cycle was made of, whether their diffs are kept or not."""
    counted = and_(
        assignments.c.counted_in == cycle_id,
        assignments.c.reported_at.is_not(None),
        assignments.c.aside.is_(False),
    )
    return int(await db.scalar(select(func.count()).where(counted)) or 0)


async def forget_diffs(db: Db, cycle_id: int) -> None:
    """Takes the diffs out of a cycle's reports."""
    await db.execute(update(assignments).where(assignments.c.counted_in == cycle_id).values(diff=None))


async def leave_out(db: Db, cycle_id: int, blobs: Sequence[str]) -> Cycle:
    """Takes reports out of a cycle whose blobs are damaged or missing; returns the cycle as it is then.

    Their workers have no place any more, and may report again while the cycle is open.
    """
    aside = list[bool]()
    for start in range(0, len(blobs), _MOST_AT_ONCE):
        some = blobs[start : start + _MOST_AT_ONCE]
        lost = update(assignments).where(assignments.c.counted_in == cycle_id, assignments.c.diff.in_(some))
        values: dict[str, object] = {
            "diff": None,
            "digest": None,
            "reported_at": None,
            "replica": None,
            "released": True,
        }
        values |= {"damaged": assignments.c.diff, "lapses": assignments.c.lapses + 1}
        rows = lost.values(values).returning(assignments.c.aside)
        aside += await db.scalars(rows)
    counted = aside.count(False)
    fewer = (
        update(cycles)
        .where(cycles.c.id == cycle_id)
        .values(
            reported=cycles.c.reported - counted,
            occupied=cycles.c.occupied - counted,
            damaged=cycles.c.damaged + len(aside),
        )
        .returning(*cycles.c)
    )
    return read_cycle((await db.execute(fewer)).mappings().one())
