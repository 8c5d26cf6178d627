"""The grid on a real PostgreSQL; see `tests.grid.databases` for how to run all other tests on one too."""

import asyncio

import pytest

from tests.grid.databases import SERVER, VARIABLE

pytestmark = pytest.mark.skipif(SERVER is None, reason=f"{VARIABLE} names no PostgreSQL server")


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
