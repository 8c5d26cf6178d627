"""The grid on a real PostgreSQL; see `tests.grid.databases` for how to run all other tests on one too."""

import asyncio

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from fedplan.grid.store import Store
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
        assert sorted(reply.status_code for reply in replies) == [200] * 24  # the same again counts once
        model = await other.until_checkpoint(2)
        assert model["cycle"]["number"] == 2
