"""The database: opening it, bringing its schema up to date, and its two kinds of transaction."""

import contextlib
import hashlib
from pathlib import Path
from typing import Protocol, Self

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, make_url, text

from fedplan.errors import ConfigError
from fedplan.grid.private import keep_file_private
from fedplan.grid.sealing import Seal
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
            url: SQLAlchemy's form: ``sqlite:///path`` or ``postgresql://…``.
            seal: seals the secrets in it. With None they are not touched, and the store has none.

        Raises:
            ConfigError: its schema is of a newer version of this program.
            SettingsError: its secrets are sealed under another key.
        """
        parsed = make_url(url)
        if parsed.get_backend_name() == "sqlite":
            if parsed.database and not parsed.database.startswith((":", "file:")):
                keep_file_private(Path(parsed.database))
            store = cls(SqliteDatabase(parsed.set(drivername="sqlite"), lambda: _PATIENCE))
        else:
            store = cls(ServerDatabase(parsed))
        try:
            await store._prepare(seal)
        except BaseException:
            await store.aclose()
            raise
        return store

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

    async def _prepare(self, seal: Seal | None) -> None:
        sealed = 0
        is_server = self.engine.dialect.name == "postgresql"
        async with self._database.preparing() as connection:  # its tables may be large, or others at it
            if is_server:
                await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
            await connection.run_sync(migrate)
            await forget_foreign_transactions(connection)
            if seal is not None:
                self.secret = await grid_key(connection, seal)
                sealed = await seal_models(connection, seal)
        if sealed and self.engine.dialect.name == "sqlite":
            async with self.reading(long=True) as connection:  # its log holds what was not sealed
                await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.id = hashlib.sha256(b"id" + self.secret).hexdigest()[:8]


def migrate(connection: Connection) -> None:
    """Brings the schema up to date, inside the caller's transaction.

    Raises:
        ConfigError: a newer version of this program has changed it.
    """
    config = Config()
    config.set_main_option("script_location", "fedplan.grid.store:migrations")
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    scripts = ScriptDirectory.from_config(config)
    known = {script.revision for script in scripts.walk_revisions()}
    found = MigrationContext.configure(connection).get_current_heads()
    if not known.issuperset(found):
        raise ConfigError(
            f"the database has the schema {', '.join(found)} of a newer fedplan, and this one knows "
            f"{scripts.get_current_head()} at most; run the newer one, or restore a backup from before it"
        )
    command.upgrade(config, "head")
