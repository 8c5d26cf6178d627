"""The databases that the grid's tests use: SQLite in the test's folder, or PostgreSQL when one is named.

``FEDPLAN_TEST_DATABASE_URL=postgresql://user@host:5432/postgres`` runs all of the grid's tests on that
server; each folder gets a database of its own there, which is dropped at the end.
"""

import functools
import hashlib
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from fedplan.grid.store.engine import migrate

VARIABLE = "FEDPLAN_TEST_DATABASE_URL"
SERVER = os.environ.get(VARIABLE)

only_sqlite = pytest.mark.skipif(SERVER is not None, reason="about SQLite")

_made = set()


async def database_of(folder, server=SERVER, *, tables=False):
    """The URL of a folder's database, on a server or in the folder; it is made on first use.

    With `tables`, one in a folder has all of them already, which saves the time of the migrations.
    """
    if server is None:
        folder.mkdir(parents=True, exist_ok=True)
        if tables and not (folder / "grid.db").exists():
            shutil.copy(_empty_file(), folder / "grid.db")
        return f"sqlite:///{folder}/grid.db"
    name = "fedplan_test_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if (server, name) not in _made:
        await _administer(server, f"CREATE DATABASE {name}")
        _made.add((server, name))
    return make_url(server).set(database=name).render_as_string(hide_password=False)


_kept = tempfile.TemporaryDirectory()


@functools.cache
def _empty_file():
    """A file with all tables and nothing in them: a copy takes a tenth of the time of all migrations."""
    file = Path(_kept.name) / "grid.db"
    engine = create_engine(f"sqlite:///{file}")
    with engine.begin() as connection:
        migrate(connection)
    engine.dispose()
    file.chmod(0o600)
    return file


async def drop_databases():
    """Drops what `database_of` made on the server that the variable names; others are gone themselves."""
    for server, name in _made:
        if server == SERVER:
            await _administer(server, f"DROP DATABASE {name} WITH (FORCE)")
    _made.clear()


async def _administer(server, statement):
    url = make_url(server).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
