"""The database: opening it, bringing its schema up to date, and its two kinds of transaction."""

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator
from typing import Any, Self

from alembic import command
from alembic.config import Config
from sqlalchemy import URL, Connection, event, make_url, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from fedplan.errors import OverloadedError
from fedplan.grid.store.tables import keys

_ASYNC_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_PATIENCE = 5  # seconds to wait for another writer; clients give up after ten
_MIGRATION_LOCK = 0x6665_6470_6C61  # any number that no other program uses on this database


class Store:
    """The grid's tables. Use `open`.

    Attributes:
        secret: key of this grid, made when its database was made; the same for all replicas.
    """

    def __init__(self, engine: AsyncEngine, writer: contextlib.AbstractAsyncContextManager[Any]) -> None:
        self._engine = engine
        self._writer = writer
        self.secret = b""

    @classmethod
    async def open(cls, url: str) -> Self:
        """Connects, and creates or upgrades the schema.

        Args:
            url: SQLAlchemy's form; ``sqlite:///path`` and ``postgresql://…`` get the asynchronous driver.
        """
        parsed = make_url(url)
        parsed = parsed.set(drivername=_ASYNC_DRIVERS.get(parsed.drivername, parsed.drivername))
        if parsed.get_backend_name() != "sqlite":
            store = cls(_engine(parsed, pool_pre_ping=True), contextlib.nullcontext())
        else:
            # Without the driver's own implicit BEGIN: reads take no lock, writes say BEGIN IMMEDIATE.
            engine = _engine(parsed, connect_args={"isolation_level": None, "timeout": _PATIENCE})
            event.listen(engine.sync_engine, "connect", _prepare_sqlite)
            # SQLite has one writer at a time. Waiting here is fair; waiting in SQLite is polling.
            store = cls(engine, _Turns())
        await store._prepare()
        return store

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with. Each statement sees what is committed when it runs."""
        async with self._engine.connect() as connection:
            yield connection

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """A transaction: committed and on disk at the end of the block, undone when it raises."""
        async with self._writer, self._engine.connect() as connection:
            if connection.dialect.name == "sqlite":
                await connection.exec_driver_sql("BEGIN IMMEDIATE")
            yield connection
            await connection.commit()

    async def _prepare(self) -> None:
        async with self.writing() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.run_sync(migrate)
            self.secret = await _secret(connection)


class _Turns:
    """One at a time, in the order of asking; who waits too long goes without."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> None:
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._lock.acquire()
        except TimeoutError:
            raise OverloadedError("the grid's database is busy; try again later") from None

    async def __aexit__(self, *_error: object) -> None:
        self._lock.release()


def _engine(url: URL, **options: Any) -> AsyncEngine:
    """An engine whose errors tell statements, but not the keys and ids in them: errors are logged."""
    return create_async_engine(url, hide_parameters=True, **options)


def migrate(connection: Connection) -> None:
    """Brings the schema up to date, inside the caller's transaction."""
    config = Config()
    config.set_main_option("script_location", "fedplan.grid.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


async def _secret(connection: AsyncConnection) -> bytes:
    name = "grid"
    found = await connection.scalar(select(keys.c.value).where(keys.c.name == name))
    if found is None:
        found = secrets.token_bytes(32)
        await connection.execute(keys.insert().values(name=name, value=found))
    return bytes(found)


def _prepare_sqlite(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in (
        "journal_mode=WAL",  # readers and the writer do not block each other
        "synchronous=FULL",  # a commit is on disk before it returns
        "foreign_keys=ON",
        f"busy_timeout={_PATIENCE * 1000:.0f}",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
