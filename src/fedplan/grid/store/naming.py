"""Queries about which blobs the rows name: all others are left over."""

from collections.abc import Collection

from sqlalchemy import Column, ColumnElement, select, true

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, checkpoints, plan_variants, processes, protocols

NAMING: tuple[tuple[Column[str | None], ColumnElement[bool]], ...] = (
    (processes.c.averaging_plan, true()),
    (processes.c.frozen, true()),
    (plan_variants.c.blob, true()),
    (protocols.c.blob, true()),
    (checkpoints.c.blob, checkpoints.c.deleted_at.is_(None)),
    (checkpoints.c.state, checkpoints.c.deleted_at.is_(None)),
    (assignments.c.diff, true()),
)
"""The columns that hold keys of blobs which are needed, each with the rows of which that is so."""

_MOST_AT_ONCE = 500
"""Keys in one statement; databases bound how many values one may hold."""


async def named(db: Db, keys: Collection[str]) -> set[str]:
    """Those of some keys that a row names."""
    found, left = set[str](), sorted(keys)
    for start in range(0, len(left), _MOST_AT_ONCE):
        some = left[start : start + _MOST_AT_ONCE]
        for column, needs in NAMING:
            found |= set(await db.scalars(select(column).where(column.in_(some), needs)))
    return found
