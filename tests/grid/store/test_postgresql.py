"""The grid on a real PostgreSQL; see `tests.grid.databases` for how to run all other tests on one too."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fedplan.grid.store import Store, participation, rounds
from fedplan.grid.store.tables import metadata
from tests.grid.databases import SERVER, VARIABLE, database_of

pytestmark = pytest.mark.skipif(SERVER is None, reason=f"{VARIABLE} names no PostgreSQL server")


async def test_the_migrations_make_the_tables(tmp_path):
    def compare(connection):
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return compare_metadata(context, metadata)

    store = await Store.open(await database_of(tmp_path))
    async with store.reading() as db:
        assert db.dialect.name == "postgresql"
        assert await db.run_sync(compare) == []
    await store.aclose()


async def test_replicas_count_every_report_once(open_grid):
    async with open_grid() as one, open_grid() as other:
        await one.host(server={"max_diffs": 8})
        workers = [await peer.join() for peer in (one, other) * 4]
        replies = await asyncio.gather(*(worker.report(1) for worker in workers * 3))
        assert [reply.status_code for reply in replies] == [200] * 24  # the same report again is no other one
        model = await other.until_checkpoint(2)
        assert model["cycle"]["number"] == 2
        ((row,),) = [(await one.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]]
        assert row["reports"] == 8


async def test_who_waits_for_a_cycle_to_end_gets_the_one_that_was_opened_then(open_grid):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 1})
        store = peer.app.state.grid.store

        async def ask():
            async with store.writing() as db:
                return await participation.latest_cycle(db, 1, lock=True)

        async with store.writing() as db:
            first = await participation.latest_cycle(db, 1, lock=True)
            await rounds.set_closing(db, first.id)
            await rounds.take_lease(db, first.id, "r", 0.0, 1e12)
            assert await rounds.end_cycle(db, first.id, "r", 1.0)
            await rounds.open_cycle(db, 1, 2, first.checkpoint_id, 1.0, None)
            asking = asyncio.create_task(ask())
            await asyncio.sleep(0.3)
            assert not asking.done()
        latest = await asking
        assert (latest.number, latest.is_open) == (2, True)
