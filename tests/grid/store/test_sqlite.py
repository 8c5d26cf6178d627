"""Group commit: transactions that come during a commit share the next, and each keeps its promises."""

import asyncio
import contextlib
import multiprocessing
import os
import sqlite3
import threading

import pytest
from sqlalchemy import event, select, text
from sqlalchemy.exc import IntegrityError, OperationalError

from fedplan.errors import OverloadedError
from fedplan.grid.store import Store
from fedplan.grid.store.tables import keys
from tests.grid.databases import only_sqlite

pytestmark = only_sqlite


@pytest.fixture
async def store(tmp_path):
    store = await Store.open(f"sqlite:///{tmp_path}/grid.db")
    yield store
    await store.aclose()


@pytest.fixture
def commits(store):
    """The threads in which commits are made."""
    threads = []
    event.listen(store.engine, "commit", lambda _connection: threads.append(threading.current_thread()))
    return threads


async def write(store, *names):
    async with store.writing() as db:
        for name in names:
            await db.execute(keys.insert().values(name=name, value=b""))


def on_disk(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "grid.db")) as other:
        return sorted(name for (name,) in other.execute("SELECT name FROM keys WHERE name != 'grid'"))


async def test_many_transactions_share_few_commits_none_of_which_blocks_the_loop(store, commits, tmp_path):
    await asyncio.gather(*(write(store, f"{n:02}") for n in range(50)))
    assert len(on_disk(tmp_path)) == 50
    assert len(commits) < 5
    assert threading.main_thread() not in commits


async def test_each_is_answered_after_the_commit_that_holds_it(store, tmp_path):
    async def check(name):
        await write(store, name)
        assert name in on_disk(tmp_path)

    await asyncio.gather(*(check(f"{n}") for n in range(20)))


async def test_one_that_fails_is_undone_alone(store, tmp_path):
    attempts = [write(store, f"{n}", "the same") for n in range(5)]
    results = await asyncio.gather(*attempts, return_exceptions=True)
    assert [type(result) for result in results] == [type(None)] + [IntegrityError] * 4
    assert on_disk(tmp_path) == ["0", "the same"]


async def test_one_that_is_cancelled_while_it_waits_for_the_commit_does_no_harm_to_the_others(
    store, tmp_path
):
    tasks = [asyncio.create_task(write(store, f"{n}")) for n in range(4)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [result for result in results if result is not None] == [results[1]]
    assert {"0", "2", "3"} <= set(on_disk(tmp_path))


async def test_all_hear_of_a_commit_that_fails_and_the_next_one_is_fine(store, tmp_path, monkeypatch):
    database = store._database
    commit = database._writer.commit

    def fail():
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))

    monkeypatch.setattr(database._writer, "commit", fail)
    results = await asyncio.gather(*(write(store, f"{n}") for n in range(3)), return_exceptions=True)
    assert [type(result) for result in results] == [OperationalError] * 3
    monkeypatch.setattr(database._writer, "commit", commit)
    assert on_disk(tmp_path) == []
    await write(store, "later")
    assert on_disk(tmp_path) == ["later"]


async def test_all_hear_of_it_when_sqlite_undoes_the_transaction_by_itself(store, tmp_path):
    async def fill():
        async with store.writing() as db:
            await db.exec_driver_sql("ROLLBACK")  # as a full disk makes SQLite do
            raise RuntimeError

    results = await asyncio.gather(write(store, "a"), fill(), write(store, "b"), return_exceptions=True)
    assert [type(result) for result in results] == [OperationalError, RuntimeError, type(None)]
    assert on_disk(tmp_path) == ["b"]


async def test_another_process_that_writes_is_waited_for_without_blocking(store, tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "grid.db")) as other:
        other.execute("BEGIN IMMEDIATE")
        writing = asyncio.create_task(write(store, "a"))
        for _ in range(20):
            await asyncio.sleep(0.005)
            async with store.reading() as db:
                assert await db.scalar(select(keys.c.name).where(keys.c.name == "a")) is None
        other.rollback()
        await writing
    assert on_disk(tmp_path) == ["a"]


async def test_waiting_for_ones_turn_has_an_end(store, monkeypatch):
    monkeypatch.setattr("fedplan.grid.store.engine._PATIENCE", 0.05)
    async with store.writing():
        with pytest.raises(OverloadedError, match="busy"):
            await write(store, "a")


async def test_what_takes_long_is_read_in_threads_row_by_row(store):
    await write(store, "a")
    seen = []

    def look(connection):
        connection.connection.driver_connection.create_function(
            "look", 0, lambda: seen.append(threading.current_thread())
        )

    async with store.reading(long=True) as db:
        await db.run_sync(look)
        rows = (await db.execute(text("SELECT n, look() FROM (SELECT 1 n UNION SELECT 2)"))).mappings()
        assert [row["n"] for row in rows] == [1, 2]
        assert list(await db.scalars(text("SELECT n + 0 * look() FROM (SELECT 3 n)"))) == [None]
        assert await db.scalar(select(keys.c.name).where(keys.c.name == "a")) == "a"
    assert len(seen) == 3
    assert threading.main_thread() not in seen


async def test_much_that_takes_long_at_once_does_not_stop_the_loop(store):
    async def read():
        async with store.reading(long=True) as db:
            await asyncio.sleep(0.01)
            return await db.scalar(text("SELECT 1"))

    async with asyncio.timeout(10):
        assert await asyncio.gather(*(read() for _ in range(40))) == [1] * 40


def test_processes_that_open_a_new_database_at_once_all_open_it(tmp_path):
    """As replicas do that start together. SQLite itself lets one in eight fail."""
    own = multiprocessing.get_context("forkserver")  # a fork of this one may stand still
    together = own.Barrier(4, timeout=120)
    urls = [f"sqlite:///{tmp_path}/{number}.db" for number in range(25)]
    openers = [own.Process(target=_open_at_once, args=(urls, together)) for _ in range(4)]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert [opener.exitcode for opener in openers] == [0] * 4


def _open_at_once(urls, together):
    for url in urls:
        together.wait()
        Store.connect(url)
    os._exit(0)
