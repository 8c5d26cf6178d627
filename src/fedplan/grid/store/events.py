"""Queries about events: they are added, read in their order, and the oldest are deleted."""

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    RowMapping,
    and_,
    bindparam,
    delete,
    func,
    literal,
    literal_column,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import sqlite

from fedplan.grid.observing.correlation import Actor, current
from fedplan.grid.observing.events import Event, Happened, Kind, Position, details_to_json
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import events

_COLUMNS = (
    *("at", "kind", "model", "version", "cycle", "actor", "actor_id", "address", "cause", "request_id"),
    "details",
)
_ADD = events.insert().inline().values({name: bindparam(name) for name in _COLUMNS})
"""Built once, and asks for nothing back: it is part of what almost every call does."""

_ADD_TO_SQLITE = str(_ADD.compile(dialect=sqlite.dialect()))
"""The same in SQLite's words, its values in the order of `_COLUMNS`: a third of the time of `_ADD` there."""

_OLDEST_AT_ONCE = 1000
"""Rows that are deleted in one transaction at most, so that nobody waits long for it."""

_NOT_BEGUN: ColumnElement[int] = literal_column("pg_snapshot_xmax(pg_current_snapshot())::text::bigint")
_UNDER_WAY: ColumnElement[int] = literal_column("pg_snapshot_xmin(pg_current_snapshot())::text::bigint")
"""PostgreSQL's number of the first transaction that has not begun, and of the oldest that is not over."""


async def add(db: Db, now: float, *happened: Event, by: Actor) -> None:
    """Writes events, in the transaction of what they tell of.

    Args:
        db: the transaction's connection.
        now: the time on the wall.
        happened: the events.
        by: who did it where neither the event nor the request that is being answered says so.
    """
    answered = current()
    rows = []
    for event in happened:
        request = event.request or answered
        actor = event.actor or (request.actor if request else None) or by
        rows.append(
            {
                "at": now,
                "kind": str(event.kind),
                "model": event.model,
                "version": event.version,
                "cycle": event.cycle,
                "actor": actor.role,
                "actor_id": actor.id,
                "address": None if request is None else request.address,
                "cause": event.cause,
                "request_id": None if request is None else request.id,
                "details": details_to_json(event.details),
            }
        )
    if rows and db.dialect.name == "sqlite":
        await db.exec_driver_sql(_ADD_TO_SQLITE, [tuple(row.values()) for row in rows])
    elif rows:
        await db.execute(_ADD, rows)


def _after(position: Position) -> ColumnElement[bool]:
    here = tuple_(events.c.written_by, events.c.id)
    return here > tuple_(literal(position.transaction, BigInteger), literal(position.id, BigInteger))


def _is_settled(db: Db) -> ColumnElement[bool]:
    """Rows before which no other can appear any more: all transactions up to theirs are over."""
    if db.dialect.name == "postgresql":
        return events.c.written_by < _UNDER_WAY
    return events.c.written_by >= 0


async def newest(db: Db) -> Position:
    """Where the newest event stands; 0 when there is none."""
    query = (
        select(events.c.written_by, events.c.id)
        .where(_is_settled(db))
        .order_by(events.c.written_by.desc(), events.c.id.desc())
        .limit(1)
    )
    row = (await db.execute(query)).first()
    return Position() if row is None else Position(row.written_by, row.id)


async def oldest(db: Db) -> Position:
    """Where the oldest event stands that is kept; 0 when there is none."""
    order = (events.c.written_by, events.c.id)
    query = select(*order).where(events.c.written_by >= 0).order_by(*order).limit(1)
    row = (await db.execute(query)).first()
    return Position() if row is None else Position(row.written_by, row.id)


async def page(
    db: Db,
    after: Position,
    most: int,
    *,
    model: str | None = None,
    version: str | None = None,
    kinds: Sequence[Kind] = (),
    newest_first: bool = False,
) -> Sequence[Happened]:
    """Events behind a position, in their order.

    Args:
        db: the connection.
        after: the position.
        most: how many at most.
        model: only those about a model of this name.
        version: only those about this version.
        kinds: only those of these kinds; all when empty.
        newest_first: the newest ones, the newest first.
    """
    wanted = [_after(after), _is_settled(db)]
    wanted += [] if model is None else [events.c.model == model]
    wanted += [] if version is None else [events.c.version == version]
    wanted += [events.c.kind.in_(kinds)] if kinds else []
    order = (events.c.written_by, events.c.id)
    ordered = [column.desc() for column in order] if newest_first else order
    rows = (await db.execute(select(events).where(and_(*wanted)).order_by(*ordered).limit(most))).mappings()
    return [_read(row) for row in rows]


async def recent_of(db: Db, model: str, version: str, kinds: Sequence[Kind], rows: int) -> Sequence[Happened]:
    """Events about a model among the newest rows of all, the newest first.

    Args:
        db: a connection for what takes long.
        model: the model's name.
        version: its version.
        kinds: of what kinds.
        rows: how many rows are looked at, at most.
    """
    last = await db.scalar(select(func.max(events.c.id))) or 0
    wanted = (
        events.c.id > last - rows,
        events.c.model == model,
        events.c.version == version,
        events.c.kind.in_(kinds),
    )
    found = (await db.execute(select(events).where(*wanted).order_by(events.c.id.desc()))).mappings()
    return [_read(row) for row in found]


async def delete_oldest(db: Db, kept: int, before: float) -> int:
    """Deletes the oldest events, some at a time; the newest one stays.

    Args:
        db: the connection.
        kept: how many may stay.
        before: those that happened before this time do not stay.

    Returns:
        How many were deleted; none when nothing is left to delete.
    """
    last = await db.scalar(select(func.max(events.c.id)))
    if last is None:
        return 0
    first = select(events.c.id, events.c.at).where(events.c.id > 0)
    first = first.order_by(events.c.id).limit(_OLDEST_AT_ONCE)
    found = (await db.execute(first)).all()
    gone = [row.id for row in found if row.id != last and (row.at < before or row.id <= last - kept)]
    if not gone:
        return 0
    # by range: what happened at about the same time stands together
    return (
        await db.execute(
            delete(events).where(
                events.c.id >= gone[0],
                events.c.id <= gone[-1],
                events.c.id != last,
                (events.c.at < before) | (events.c.id <= last - kept),
            )
        )
    ).rowcount


async def forget_foreign_transactions(db: Db) -> None:
    """Puts the events of a database that was moved to another server before all that come.

    A backup that is restored elsewhere has numbers of transactions that the new server has not come to.
    """
    if db.dialect.name == "postgresql":
        await db.execute(update(events).where(events.c.written_by >= _NOT_BEGUN).values(written_by=0))


def _read(row: RowMapping) -> Happened:
    details: dict[str, Any] = json.loads(row["details"]) if row["details"] else {}
    return Happened(
        Position(row["written_by"], row["id"]),
        row["at"],
        Event(
            _kind(row["kind"]),
            row["cause"],
            row["model"],
            row["version"],
            row["cycle"],
            Actor(row["actor"], row["actor_id"]),
            details,
        ),
        row["address"],
        row["request_id"],
    )


def _kind(text: str) -> Kind | str:
    """A kind; that of another replica's program may be unknown here."""
    try:
        return Kind(text)
    except ValueError:
        return text
