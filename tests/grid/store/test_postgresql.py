"""The grid on a real PostgreSQL; see `tests.grid.databases` for how to run all other tests on one too."""

import asyncio
import os
import signal

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError, ProgrammingError

from fedplan.errors import DatabaseUnavailableError
from fedplan.grid.records import Lease
from fedplan.grid.store import Store, participation, rounds, server
from fedplan.grid.store.tables import keys
from fedplan.grid.web.replies import STORAGE_FAULT, refusal
from fedplan.wire.messages import ErrorReply
from tests.grid.databases import database_of
from tests.grid.postgresql import cluster, needs_postgresql

pytestmark = needs_postgresql

DELETE = "DELETE FROM keys WHERE name = 'none' RETURNING name"


@pytest.fixture
async def database(tmp_path, postgresql):
    return await database_of(tmp_path, postgresql.url)


@pytest.fixture
async def store(database):
    store = await Store.open(database)
    yield store
    await store.aclose()


async def test_replicas_count_every_report_once(open_grid, database):
    async with open_grid(database_url=database) as one, open_grid(database_url=database) as other:
        await one.host(server={"max_diffs": 8})
        workers = [await peer.join() for peer in (one, other) * 4]
        replies = await asyncio.gather(*(worker.report(1) for worker in workers * 3))
        assert [reply.status_code for reply in replies] == [200] * 24  # the same report again is no other one
        model = await other.until_checkpoint(2)
        assert model["cycle"]["number"] == 2
        ((row,),) = [(await one.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]]
        assert row["reports"] == 8


async def ask(store, *statements):
    """What the last of some statements in one transaction gives."""
    answer = None
    async with store.writing() as db:
        for statement in statements or ("SELECT 1",):
            answer = await db.scalar(text(statement))
    return answer


async def fault(store, *statements):
    """Asks, and has the peer hear that it should come again; returns what the log tells."""
    with pytest.raises(Exception) as caught:  # noqa: PT011
        await ask(store, *statements)
    assert refusal(caught.value) == (503, ErrorReply(error=STORAGE_FAULT))
    return str(caught.value)


class TestAFaultOfTheServer:
    @pytest.mark.parametrize(
        ("statements", "said"),
        [
            (
                ["SELECT pg_terminate_backend(pg_backend_pid())"],
                "terminating connection due to administrator",
            ),
            (["SELECT set_config('statement_timeout', '1', true)", "SELECT pg_sleep(5)"], "QueryCanceled"),
            (["SELECT set_config('transaction_read_only', 'on', true)", DELETE], "ReadOnlySQLTransaction"),
        ],
    )
    async def test_is_one_of_the_storage(self, store, statements, said):
        assert said in await fault(store, *statements)
        assert await ask(store) == 1

    async def test_may_be_a_deadlock(self, store):
        async with store.writing() as db:
            await db.execute(keys.insert(), [{"name": name, "value": b""} for name in "ab"])
        met = asyncio.Barrier(2)

        async def change(first, second):
            async with store.writing() as db:
                await db.execute(keys.update().where(keys.c.name == first).values(value=b"x"))
                await met.wait()
                await db.execute(keys.update().where(keys.c.name == second).values(value=b"x"))

        results = await asyncio.gather(change("a", "b"), change("b", "a"), return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["DatabaseUnavailableError", "NoneType"]

    async def test_may_be_that_it_says_nothing(self, database, postgresql, monkeypatch):
        monkeypatch.setattr(server, "_CONNECT_SECONDS", 0.5)
        monkeypatch.setattr(server, "_STATEMENT_SECONDS", 0.5)
        store = await Store.open(database)
        assert await ask(store) == 1
        backend = await ask(store, "SELECT pg_backend_pid()")
        os.kill(backend, signal.SIGSTOP)
        try:
            await fault(store)
        finally:
            os.kill(backend, signal.SIGCONT)
        assert await ask(store) == 1
        await store.aclose()

    async def test_may_be_that_all_connections_are_taken(self, database, monkeypatch):
        monkeypatch.setattr(server, "_CONNECT_SECONDS", 0.3)
        store = await Store.open(database)
        enough = asyncio.Event()
        holding = [asyncio.create_task(hold(store, enough)) for _ in range(15)]
        await asyncio.sleep(1)
        await fault(store)
        enough.set()
        await asyncio.gather(*holding)
        assert await ask(store) == 1
        await store.aclose()

    async def test_lasts_as_long_as_the_server_is_away(self):
        with cluster() as made:
            store = await Store.open(made.url)
            for way in (made.kill, made.stop, lambda: made.stop("immediate")):
                assert await ask(store) == 1
                way()
                for _ in range(3):
                    await fault(store)
                made.start()
                assert await ask(store) == 1
            await store.aclose()

    async def test_may_be_that_it_lets_nobody_in(self, database):
        with pytest.raises(DatabaseUnavailableError, match="does not exist"):
            await Store.open(database + "_which_is_not_there")


async def hold(store, enough):
    async with store.reading() as db:
        await db.scalar(text("SELECT 1"))
        await enough.wait()


async def test_a_fault_of_a_statement_is_none_of_the_server(store):
    with pytest.raises(ProgrammingError):
        await ask(store, "SELECT nothing FROM nowhere")
    async with store.writing() as db:
        await db.execute(keys.insert(), {"name": "a", "value": b""})
    with pytest.raises(IntegrityError):
        async with store.writing() as db:
            await db.execute(keys.insert(), {"name": "a", "value": b""})


async def test_who_waits_for_a_cycle_to_end_gets_the_one_that_was_opened_then(open_grid, database):
    async with open_grid(database_url=database) as peer:
        await peer.host(server={"max_diffs": 1})
        store = peer.app.state.grid.store

        async def look():
            async with store.writing() as db:
                return await participation.latest_cycle(db, 1, lock=True)

        async with store.writing() as db:
            first = await participation.latest_cycle(db, 1, lock=True)
            await rounds.set_closing(db, first.id)
            lease = await rounds.take_lease(db, Lease(first.id, None, 0), "r")
            assert await rounds.end_cycle(db, lease, 1.0)
            await rounds.open_cycle(db, 1, 2, first.checkpoint_id, 1.0, None)
            asking = asyncio.create_task(look())
            await asyncio.sleep(0.3)
            assert not asking.done()
        latest = await asking
        assert (latest.number, latest.is_open) == (2, True)
