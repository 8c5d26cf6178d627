"""The databases that the grid's tests use: SQLite in the test's folder, or PostgreSQL when one is named.

``FEDPLAN_TEST_DATABASE_URL=postgresql://user@host:5432/postgres`` runs all of the grid's tests on that
server; each folder gets a database of its own there, which is dropped at the end.
"""

import hashlib
import os

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

VARIABLE = "FEDPLAN_TEST_DATABASE_URL"
SERVER = os.environ.get(VARIABLE)

only_sqlite = pytest.mark.skipif(SERVER is not None, reason="about SQLite")

_made = set()


async def database_of(folder):
    """The URL of a folder's database; it is made on first use."""
    if SERVER is None:
        folder.mkdir(parents=True, exist_ok=True)
        return f"sqlite:///{folder}/grid.db"
    name = "fedplan_test_" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    if name not in _made:
        await _administer(f"CREATE DATABASE {name}")
        _made.add(name)
    return make_url(SERVER).set(database=name).render_as_string(hide_password=False)


async def drop_databases():
    """Drops what `database_of` made."""
    while _made:
        await _administer(f"DROP DATABASE {_made.pop()} WITH (FORCE)")


async def _administer(statement):
    url = make_url(SERVER).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()
