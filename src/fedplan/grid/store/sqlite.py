"""SQLite, without a thread between a query and its answer.

A query of the grid takes SQLite some ten microseconds. Handing it to another thread, as asynchronous drivers
do with each statement, takes ten times as long, and more while that thread waits for Python's lock. So
statements run where they stand. What waits for the disk is the commit: it alone runs in a thread, and
transactions that come meanwhile share the next one (group commit). Each is answered after the commit that
holds it, and is undone alone when it fails.
"""

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from sqlalchemy import URL, Connection, Dialect, Engine, Executable, create_engine, event
from sqlalchemy.engine import CursorResult, ScalarResult
from sqlalchemy.exc import DBAPIError, OperationalError

from fedplan.errors import OverloadedError
from fedplan.grid.store.connection import Db

_T = TypeVar("_T")

_POLL_SECONDS = 0.002
"""How often SQLite is asked again for its one place to write, while another process has it."""

_LONG_AT_ONCE = 4
"""Connections for what takes long. SQLAlchemy's pool has fifteen, of which two are in use all the time."""

_BUSY = 5
"""The lowest byte of SQLite's codes for a database that another process is writing to."""

_BUSY_SECONDS = 5
"""How long a connection waits for another process while the database is opened."""


class InlineConnection:
    """A connection whose statements run in the caller's thread, or in a thread each."""

    def __init__(self, connection: Connection, *, threaded: bool = False) -> None:
        self._connection = connection
        self._threaded = threaded

    @property
    def dialect(self) -> Dialect:
        """See `Db`."""
        return self._connection.dialect

    async def execute(self, statement: Executable, parameters: Any = None, /) -> CursorResult[Any]:
        """See `Db`."""
        return await self._run(lambda: self._fetched(self._connection.execute(statement, parameters)))

    async def scalar(self, statement: Executable, parameters: Any = None, /) -> Any:
        """See `Db`."""
        return await self._run(lambda: self._connection.scalar(statement, parameters))

    async def scalars(self, statement: Executable, parameters: Any = None, /) -> ScalarResult[Any]:
        """See `Db`."""
        return (await self.execute(statement, parameters)).scalars()

    async def exec_driver_sql(self, statement: str, parameters: Any = None, /) -> CursorResult[Any]:
        """See `Db`."""
        return await self._run(lambda: self._connection.exec_driver_sql(statement, parameters))

    async def run_sync(self, work: Callable[[Connection], _T], /) -> _T:
        """See `Db`."""
        return await self._run(lambda: work(self._connection))

    def _fetched(self, result: CursorResult[Any]) -> CursorResult[Any]:
        """The same rows, found in this thread: SQLite looks for each only when it is taken."""
        if not self._threaded or not result.returns_rows:
            return result
        return cast("CursorResult[Any]", result.freeze()())

    async def _run(self, work: Callable[[], _T]) -> _T:
        return await asyncio.to_thread(work) if self._threaded else work()


class SqliteDatabase:
    """One SQLite file: a connection that reads, and one that writes for all in turn.

    Args:
        url: with the driver `sqlite`.
        patience: seconds to wait for one's turn, and for another process that writes.
    """

    def __init__(self, url: URL, patience: Callable[[], float]) -> None:
        self.engine = _engine(url)
        self._patience = patience
        self._reader = self.engine.connect()
        self._writer = self.engine.connect()
        self._writer.exec_driver_sql("PRAGMA busy_timeout=0")  # waiting is `_begin`'s, it blocks nobody
        self._writer.commit()
        self._turn = asyncio.Lock()  # in the order of asking
        self._long = asyncio.Semaphore(_LONG_AT_ONCE)
        self._group: _Group | None = None
        self._committing: set[asyncio.Task[None]] = set()
        self._disk = ThreadPoolExecutor(1, "fedplan-commit")

    async def aclose(self) -> None:
        """Closes all connections, once everything is committed."""
        while self._committing:
            await asyncio.wait(self._committing)
        self._disk.shutdown()
        self._reader.close()
        self._writer.close()
        self.engine.dispose()

    @contextlib.asynccontextmanager
    async def reading(self, *, long: bool) -> AsyncIterator[Db]:
        """See `Store.reading`."""
        if not long:
            yield InlineConnection(self._reader)
            return
        async with self._long:  # the pool would let the event loop wait for a connection
            with self.engine.connect() as connection:
                yield InlineConnection(connection, threaded=True)

    @contextlib.asynccontextmanager
    async def writing(self) -> AsyncIterator[Db]:
        """See `Store.writing`."""
        await self._take_turn()
        try:
            group = self._group or await self._begin()
            async with self._savepoint(group):
                yield InlineConnection(self._writer)
        finally:
            self._turn.release()
        await group.wait()

    @contextlib.asynccontextmanager
    async def snapshot(self) -> AsyncIterator[Db]:
        """See `Store.snapshot`: the write-ahead log keeps what is written meanwhile apart."""
        async with self._long:
            with self.engine.connect() as connection:
                connection.exec_driver_sql("BEGIN")
                try:
                    yield InlineConnection(connection, threaded=True)
                finally:
                    connection.rollback()

    @contextlib.asynccontextmanager
    async def preparing(self) -> AsyncIterator[Db]:
        """See `Database.preparing`: no statement has a bound here.

        Tables may be made anew to which others refer, so nothing is held against them until it is done.
        """
        self._refer(checked=False)
        try:
            async with self.writing() as db:
                yield db
        finally:
            self._refer(checked=True)

    def _refer(self, *, checked: bool) -> None:
        self._writer.exec_driver_sql(f"PRAGMA foreign_keys={'ON' if checked else 'OFF'}")
        self._writer.commit()

    async def _take_turn(self) -> None:
        try:
            async with asyncio.timeout(self._patience()):
                await self._turn.acquire()
        except TimeoutError:
            raise OverloadedError("the grid's database is busy; try again later") from None

    async def _begin(self) -> "_Group":
        """Opens a transaction, and lets its commit wait for its turn behind those who wait already."""
        clock = asyncio.get_running_loop().time
        end = clock() + self._patience()
        while True:
            try:
                self._writer.exec_driver_sql("BEGIN IMMEDIATE")
                break
            except OperationalError as error:
                self._writer.rollback()
                if not _is_busy(error.orig) or clock() >= end:
                    raise
            await asyncio.sleep(_POLL_SECONDS)
        group = self._group = _Group()
        committing = asyncio.create_task(self._commit(group))
        self._committing.add(committing)
        committing.add_done_callback(self._committing.discard)
        return group

    @contextlib.asynccontextmanager
    async def _savepoint(self, group: "_Group") -> AsyncIterator[None]:
        """What is written in the block is undone alone when the block raises."""
        self._writer.exec_driver_sql("SAVEPOINT turn")
        try:
            yield
            self._writer.exec_driver_sql("RELEASE turn")
        except BaseException:
            try:
                self._writer.exec_driver_sql("ROLLBACK TO turn")
                self._writer.exec_driver_sql("RELEASE turn")
            except DBAPIError as error:  # a full disk, say: SQLite has undone the transaction itself
                self._end(group, error)
            raise

    async def _commit(self, group: "_Group") -> None:
        async with self._turn:
            if group.over:
                return
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()

            def end(error: Exception | None) -> None:
                self._end(group, error)
                ended.set()

            def commit() -> None:
                try:
                    self._writer.commit()
                except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must hear of it
                    loop.call_soon_threadsafe(end, error)
                else:
                    loop.call_soon_threadsafe(end, None)  # those who wait go on in the loop's next turn

            self._disk.submit(commit)
            await ended.wait()

    def _end(self, group: "_Group", error: Exception | None) -> None:
        self._group = None
        if error is not None:
            with contextlib.suppress(DBAPIError):
                self._writer.rollback()
        group.end(error)


class _Group:
    """Transactions that one commit brings to the disk."""

    def __init__(self) -> None:
        self.over = False
        self._error: Exception | None = None
        self._waiting: list[asyncio.Future[None]] = []

    async def wait(self) -> None:
        """Waits until they are there; raises when they are lost."""
        if not self.over:
            mine = asyncio.get_running_loop().create_future()
            self._waiting.append(mine)
            await mine
        if self._error is not None:
            raise self._error

    def end(self, error: Exception | None) -> None:
        """They are there, or lost."""
        self.over = True
        self._error = error
        for future in self._waiting:
            if not future.done():
                future.set_result(None)


def _is_busy(error: BaseException | None) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF == _BUSY


def _engine(url: URL) -> Engine:
    """An engine that leaves transactions to the caller: reads take no lock, writes say BEGIN IMMEDIATE."""
    options = {"isolation_level": None, "check_same_thread": False, "timeout": _BUSY_SECONDS}
    engine = create_engine(url, hide_parameters=True, connect_args=options)
    event.listen(engine, "connect", _prepare)
    return engine


def _prepare(connection: Any, _record: object) -> None:
    cursor = connection.cursor()
    _write_ahead(cursor)
    for pragma in (
        "synchronous=FULL",  # a commit is on disk before it returns
        "foreign_keys=ON",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _write_ahead(cursor: sqlite3.Cursor) -> None:
    """Readers and the writer do not block each other then.

    Where two do this to a new file at once, SQLite lets one of them fail without a wait.
    """
    end = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            cursor.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if not _is_busy(error) or time.monotonic() >= end:
                raise
            time.sleep(_POLL_SECONDS)
        else:
            return
