"""Queries about the time: the database's, and how the grid's differs from it."""

import dataclasses
from typing import Any

from sqlalchemy import ColumnElement, Double, cast, extract, func, select, update

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import clock


@dataclasses.dataclass(frozen=True, slots=True)
class Reading:
    """What the database says of the time.

    Attributes:
        wall: its time, in seconds since 1970; None where it has no clock of its own (SQLite).
        shift: what is to be added to it for the grid's time.
        jumps: how often it has jumped.
    """

    wall: float | None
    shift: float
    jumps: int


async def read(db: Db) -> Reading:
    """Reads the time."""
    columns: list[ColumnElement[Any]] = [clock.c.shift, clock.c.jumps]
    if db.dialect.name == "postgresql":
        columns.append(cast(extract("epoch", func.clock_timestamp()), Double).label("wall"))
    row = (await db.execute(select(*columns))).one()
    return Reading(getattr(row, "wall", None), row.shift, row.jumps)


async def note_jump(db: Db, seconds: float, seen: int) -> bool:
    """Notes that the database's time has jumped, so that the grid's does not.

    Args:
        db: the connection.
        seconds: how far; negative when it was set back.
        seen: how many jumps the replica knows of that has noticed this one.

    Returns:
        False when another replica was faster.
    """
    noted = update(clock).where(clock.c.jumps == seen)
    values = {"shift": clock.c.shift - seconds, "jumps": clock.c.jumps + 1}
    return (await db.execute(noted.values(values))).rowcount == 1


async def touch(db: Db) -> None:
    """Writes what is there already, to see whether anything can be written."""
    await db.execute(update(clock).values(jumps=clock.c.jumps))
