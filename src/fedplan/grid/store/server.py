"""A database that is a server, PostgreSQL: its two kinds of transaction, and how its absence is known."""

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sqlalchemy import URL
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from fedplan.errors import DatabaseUnavailableError
from fedplan.grid.store.connection import Db

_CONNECT_SECONDS = 5.0
"""To open a connection, or to get one of those that are open; clients give up after ten."""

_STATEMENT_SECONDS = 30.0
"""What takes longer has no answer to wait for: a server whose network is cut says nothing."""

_PASSING = ("08", "25006", "25P03", "25P04", "28", "3D", "40", "53", "55P03", "57", "58", "XX")
"""How each SQLSTATE begins that speaks of the server and not of the statement: no connection; a standby,
which cannot write; a transaction that lasted too long; no entry, or no such database; a deadlock; no memory,
disk or connections; a lock; a shutdown or a start; its disk; its own damage."""


class ServerDatabase:
    """A database that is a server, PostgreSQL: it groups commits itself.

    Args:
        url: its address.
    """

    def __init__(self, url: URL) -> None:
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+asyncpg")
        bounds: dict[str, Any] = {}
        if url.get_driver_name() == "asyncpg":
            bounds = {"timeout": _CONNECT_SECONDS, "command_timeout": _STATEMENT_SECONDS}
        # errors are logged, and should tell statements, but not the keys and ids in them
        self._engine = create_async_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            pool_timeout=_CONNECT_SECONDS,
            connect_args=bounds,
        )
        self._patient = create_async_engine(url, hide_parameters=True, poolclass=NullPool)
        self.engine = self._engine.sync_engine

    @contextlib.asynccontextmanager
    async def reading(self, *, long: bool) -> AsyncIterator[Db]:
        """See `Store.reading`."""
        with _faults():
            async with (self._patient if long else self._engine).connect() as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Db]:
        """See `Store.snapshot`."""
        with _faults():
            async with self._patient.connect() as connection:
                yield await connection.execution_options(isolation_level="REPEATABLE READ")

    def writing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """See `Store.writing`."""
        return _transaction(self._engine)

    def preparing(self) -> contextlib.AbstractAsyncContextManager[Db]:
        """See `Database.preparing`."""
        return _transaction(self._patient)

    async def aclose(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()


@contextlib.asynccontextmanager
async def _transaction(engine: AsyncEngine) -> AsyncIterator[Db]:
    with _faults():
        async with engine.connect() as connection:
            yield connection
            await connection.commit()


@contextlib.contextmanager
def _faults() -> Iterator[None]:
    """The one place where errors of the server and its driver become one of ours, if they may pass."""
    try:
        yield
    except Exception as error:
        if not _may_pass(error):
            raise
        cause = getattr(error, "orig", None) or error
        cause = cause.__cause__ or cause  # the driver's own, which SQLAlchemy wraps twice
        said, _, _ = str(cause).partition("\n")
        raise DatabaseUnavailableError(
            f"the database cannot be used at present ({type(cause).__name__}: {said})"
        ) from error


def _may_pass(error: Exception) -> bool:
    """Whether the server is away, or refuses for now; a refused connection and a timeout are OSErrors."""
    if isinstance(error, DBAPIError):
        state = getattr(error.orig, "sqlstate", None) or ""
        return (
            error.connection_invalidated
            or isinstance(error, OperationalError | InterfaceError)
            or state.startswith(_PASSING)
        )
    return type(error).__module__.partition(".")[0] == "asyncpg"  # while connecting, which nobody wraps
