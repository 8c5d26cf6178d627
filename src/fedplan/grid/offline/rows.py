"""All rows of a grid's tables as files of JSON lines, and back: the same for every kind of database.

The tables are taken as they are found, so that a database of an older schema can be written and read too.
"""

import base64
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, LargeBinary, MetaData, Table, func, select, text

_LEFT_OUT = {"alembic_version", "replicas", "chores", "webhooks"}
"""Tables of the schema itself, and of the processes that ran."""

_OF_ITS_SERVER = {("events", "written_by")}
"""Columns, with their tables, that mean something on their own database server alone."""

_AT_ONCE = 1000

_BYTES = "base64"
"""The key of an object that stands for bytes; no column holds objects."""


def write_rows(connection: Connection, folder: Path) -> dict[str, str]:
    """Writes each table into a file of its own.

    Args:
        connection: in a transaction in which all statements see the same.
        folder: where; it is empty.

    Returns:
        By the tables' names, the SHA-256 of their files, in an order in which rows may be inserted.
    """
    return {table.name: _write(connection, table, folder) for table in _tables(connection)}


def read_rows(folder: Path, table: str) -> Iterator[dict[str, Any]]:
    """The rows of one table that was written; bytes are texts still."""
    with _file(folder, table).open(encoding="utf-8") as lines:
        for line in lines:
            yield json.loads(line)


def digest_of(folder: Path, table: str) -> str:
    """The SHA-256 of a table's file."""
    with _file(folder, table).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def insert_rows(connection: Connection, folder: Path, names: list[str]) -> int:
    """Fills tables, and returns how many rows there are.

    Args:
        connection: of a database of the schema that the rows were written from.
        folder: where they were written to.
        names: the tables, in an order in which rows may be inserted.
    """
    tables = {table.name: table for table in _tables(connection)}
    for name in reversed(names):  # a migration may have put rows into some
        connection.execute(tables[name].delete())
    count = 0
    for name in names:
        rows = read_rows(folder, name)
        while some := list(itertools.islice(rows, _AT_ONCE)):
            connection.execute(tables[name].insert(), [_opened(row) for row in some])
            count += len(some)
        if connection.dialect.name == "postgresql":
            _number_on(connection, tables[name])
    if "cycles" in tables:  # whoever was at one is not any more
        connection.execute(tables["cycles"].update().values(lease_owner=None))
    return count


def opened(value: Any) -> Any:
    """A value as it was in its column."""
    return base64.b64decode(value[_BYTES]) if isinstance(value, dict) else value


def _opened(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: opened(value) for name, value in row.items()}


def _tables(connection: Connection) -> list[Table]:
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name not in _LEFT_OUT]


def _write(connection: Connection, table: Table, folder: Path) -> str:
    binary = {column.name for column in table.columns if isinstance(column.type, LargeBinary)}
    query = select(table).order_by(*table.primary_key.columns)
    with _file(folder, table.name).open("x", encoding="utf-8") as file:
        for row in connection.execute(query.execution_options(yield_per=_AT_ONCE)).mappings():
            told = {
                name: _closed(value) if name in binary else value
                for name, value in row.items()
                if (table.name, name) not in _OF_ITS_SERVER
            }
            file.write(json.dumps(told) + "\n")
    return digest_of(folder, table.name)


def _closed(value: bytes | None) -> Any:
    return None if value is None else {_BYTES: base64.b64encode(bytes(value)).decode()}


def _number_on(connection: Connection, table: Table) -> None:
    """Lets PostgreSQL go on numbering rows after those that brought their numbers with them."""
    if "id" not in table.columns:
        return
    sequence = connection.scalar(select(func.pg_get_serial_sequence(table.name, "id")))
    highest = connection.scalar(select(func.max(table.columns["id"])))
    if sequence is not None and highest is not None:
        connection.execute(text("SELECT setval(:name, :value)"), {"name": sequence, "value": highest})


def _file(folder: Path, table: str) -> Path:
    return folder / f"{table}.jsonl"
