"""Queries about which blobs the rows name: all others are left over."""

from collections.abc import Collection

from sqlalchemy import Column, select

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, checkpoints, plan_variants, processes, protocols

NAMING: tuple[Column[str | None], ...] = (
    processes.c.averaging_plan,
    processes.c.frozen,
    plan_variants.c.blob,
    protocols.c.blob,
    checkpoints.c.blob,
    checkpoints.c.state,
    assignments.c.diff,
)
"""The columns that hold keys of blobs which are needed."""

_MOST_AT_ONCE = 500
"""Keys in one statement; databases bound how many values one may hold."""


async def named(db: Db, keys: Collection[str]) -> set[str]:
    """Those of some keys that a row names."""
    found, left = set[str](), sorted(keys)
    for start in range(0, len(left), _MOST_AT_ONCE):
        some = left[start : start + _MOST_AT_ONCE]
        for column in NAMING:
            found |= set(await db.scalars(select(column).where(column.in_(some))))
    return found
