"""The database: opening it, bringing its schema up to date, and its two kinds of transaction."""

import contextlib
import functools
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol, Self

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, Connection, Engine, make_url, text

from fedplan.errors import ConfigError
from fedplan.grid.secrets.private import keep_file_private
from fedplan.grid.secrets.sealing import Seal
from fedplan.grid.store.connection import Db
from fedplan.grid.store.events import forget_foreign_transactions
from fedplan.grid.store.sealed import grid_key, seal_models
from fedplan.grid.store.server import ServerDatabase
from fedplan.grid.store.sqlite import SqliteDatabase

_PLAIN = Seal()
"""Leaves secrets as they are."""

_PATIENCE = 5.0  # seconds to wait for another writer; clients give up after ten
_MIGRATION_LOCK = 0x6665_6470_6C61  # any number that no other program uses on this database


class Database(Protocol):
    """What one kind of database does in its own way; see `Store` for what the methods do."""

    engine: Engine

    def reading(self, *, long: bool) -> contextlib.AbstractAsyncContextManager[Db]:
        """See `Store.reading`."""

    def writing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """See `Store.writing`."""

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """See `Store.snapshot`."""

    def preparing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """Like `writing`, for what may take as long as it needs."""

    async def aclose(self) -> None:
        """Closes all connections."""


class Store:
    """The grid's tables. Use `open`.

    Attributes:
        secret: key of this grid, made when its database was made; the same for all replicas.
        id: tells this database from others that may use the same blob store.
        engine: SQLAlchemy's, for those who want to see the statements.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self.engine = database.engine
        self.secret = b""
        self.id = ""

    @classmethod
    async def open(cls, url: str, seal: Seal | None = _PLAIN) -> Self:
        """Connects, and creates or upgrades the schema.

        Args:
            url: see `connect`.
            seal: seals the secrets in it. With None they are not touched, and the store has none.

        Raises:
            ConfigError: its schema is of a newer version of this program.
            SettingsError: its secrets are sealed under another key.
        """
        store = cls.connect(url)
        try:
            await store._prepare(seal)
        except BaseException:
            await store.aclose()
            raise
        return store

    @classmethod
    async def look(cls, url: str, *, older: bool = False) -> Self:
        """Connects to a database that is there and of this program's schema, and changes nothing in it.

        Args:
            url: see `connect`.
            older: whether it may be of an older schema.

        Raises:
            ConfigError: there is none, or its schema is another.
        """
        file = _file_of(make_url(url))
        if file is not None and not file.exists():
            raise ConfigError(f"there is no database '{file}'")
        store = cls.connect(url)
        try:
            async with store.reading(long=True) as connection:
                await connection.run_sync(schema_of if older else check_schema)
        except BaseException:
            await store.aclose()
            raise
        return store

    @classmethod
    def connect(cls, url: str) -> Self:
        """Connects to a database as it is, or to a new one without tables.

        Args:
            url: SQLAlchemy's form: ``sqlite:///path`` or ``postgresql://…``.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() != "sqlite":
            return cls(ServerDatabase(parsed))
        file = _file_of(parsed)
        if file is not None:
            keep_file_private(file)
        return cls(SqliteDatabase(parsed.set(drivername="sqlite"), lambda: _PATIENCE))

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._database.aclose()

    def reading(self, *, long: bool = False) -> contextlib.AbstractAsyncContextManager[Db]:
        """A connection to read with. Each statement sees what is committed when it runs.

        Args:
            long: its statements may take long, so that others should not have to wait for them.
        """
        return self._database.reading(long=long)

    def writing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """A transaction: committed and on disk at the end of the block, undone when it raises."""
        return self._database.writing()

    def snapshot(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """A connection to read with, all of whose statements see what was committed before the first."""
        return self._database.snapshot()

    def preparing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """Like `writing`, for what may take long, and one at a time of all who prepare the database."""
        return self._preparing()

    @contextlib.asynccontextmanager
    async def _preparing(self) -> AsyncIterator[Db]:
        async with self._database.preparing() as connection:  # its tables may be large, or others at it
            if self.engine.dialect.name == "postgresql":
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            yield connection

    async def _prepare(self, seal: Seal | None) -> None:
        sealed = 0
        async with self.preparing() as connection:
            await connection.run_sync(migrate)
            await forget_foreign_transactions(connection)
            if seal is not None:
                self.secret = await grid_key(connection, seal)
                sealed = await seal_models(connection, seal)
        if sealed and self.engine.dialect.name == "sqlite":
            async with self.reading(long=True) as connection:  # its log holds what was not sealed
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.id = hashlib.sha256(b"id" + self.secret).hexdigest()[:8]


def migrate(connection: Connection, schema: str = "head") -> None:
    """Brings the schema up to date, inside the caller's transaction.

    Args:
        connection: to the database.
        schema: the number of the last migration; the newest one by default.

    Raises:
        ConfigError: a newer version of this program has changed it.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is not None:
        check_can_read(found)
        if schema == "head" and found == _schemas()[0]:
            return
    config = _migrations()
    config.attributes["connection"] = connection
    command.upgrade(config, schema)


def schema_of(connection: Connection) -> str:
    """The schema of a database: the number of its last migration.

    Raises:
        ConfigError: it is newer than this program, or there is none.
    """
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        raise ConfigError("the database has no tables of a grid; start the grid once")
    check_can_read(found)
    return found


def check_schema(connection: Connection) -> None:
    """Sees whether the schema is that of this program.

    Raises:
        ConfigError: it is older or newer, or there is none.
    """
    found, newest = schema_of(connection), _schemas()[0]
    if found != newest:
        raise ConfigError(
            f"the database has the schema {found} of an older fedplan, and this one needs {newest}: start "
            "the grid once with this version, which brings it up to date"
        )


def check_can_read(schema: str, what: str = "the database") -> None:
    """Sees whether this program knows a schema.

    Args:
        schema: the number of the last migration.
        what: has it.

    Raises:
        ConfigError: it is newer.
    """
    if schema not in _schemas():
        raise ConfigError(
            f"{what} has the schema {schema} of a newer fedplan, and this one knows "
            f"{_schemas()[0]} at most; run the newer one, or restore a backup from before it"
        )


@functools.cache
def _schemas() -> tuple[str, ...]:
    """All that this program knows, the newest first. Reading them takes as long as opening a database."""
    return tuple(script.revision for script in ScriptDirectory.from_config(_migrations()).walk_revisions())


def _migrations() -> Config:
    config = Config()
    config.set_main_option("script_location", "fedplan.grid.store:migrations")
    config.set_main_option("path_separator", "os")
    return config


def _file_of(url: URL) -> Path | None:
    """The file of an SQLite database; None of one in memory, or on a server."""
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(url.database or "") if is_file and not str(url.database).startswith((":", "file:")) else None


def is_in_memory(url: URL) -> bool:
    """Whether a database is one that only the process that opens it can have."""
    return url.get_backend_name() == "sqlite" and _file_of(url) is None
