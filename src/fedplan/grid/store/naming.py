"""Queries about which blobs the rows name: all others are left over."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Column, ColumnElement, select, true

from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, checkpoints, plan_variants, processes, protocols

_Naming = tuple[Column[str | None], ColumnElement[bool]]

_THERE = checkpoints.c.deleted_at.is_(None)

NAMING: Mapping[str, Sequence[_Naming]] = {
    "models": ((checkpoints.c.blob, _THERE), (processes.c.frozen, true())),
    "states": ((checkpoints.c.state, _THERE),),
    "plans": ((plan_variants.c.blob, true()), (processes.c.averaging_plan, true())),
    "protocols": ((protocols.c.blob, true()),),
    "diffs": ((assignments.c.diff, true()),),
}
"""By kinds of blobs, the columns that hold their keys, each with the rows that need what they name."""

_MOST_AT_ONCE = 500
"""Keys in one statement; databases bound how many values one may hold."""


def keys_of(table: str, row: Mapping[str, Any]) -> Iterator[str]:
    """The keys of blobs that a row names which are needed; columns that an older schema lacks name none.

    Args:
        table: the name of its table.
        row: its values by the names of their columns.
    """
    if row.get("deleted_at") is not None:  # of a checkpoint
        return
    for column, _ in itertools.chain.from_iterable(NAMING.values()):
        if column.table.name == table and row.get(column.name) is not None:
            yield row[column.name]


async def named(db: Db, keys: Collection[str]) -> set[str]:
    """Those of some keys that a row names."""
    found = set[str]()
    for kind, columns in NAMING.items():
        left = sorted(key for key in keys if key.startswith(f"{kind}/"))
        for start in range(0, len(left), _MOST_AT_ONCE):
            some = left[start : start + _MOST_AT_ONCE]
            for column, needs in columns:
                found |= set(await db.scalars(select(column).where(column.in_(some), needs)))
    return found
