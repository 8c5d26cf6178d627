"""Deleting a model: nothing of it is left, and its name is free."""

import asyncio

import pytest
from sqlalchemy import func, select

from fedplan.grid.store import removal
from fedplan.grid.store.tables import api_tokens, chores, clock, events, keys, metadata, replicas, webhooks
from tests.grid.models import iterative_plan
from tests.grid.service.test_controlling import refused, told

OF_NO_MODEL = {api_tokens, chores, clock, keys, replicas, webhooks}
STAYS = {events}
"""What happened to it, and who deleted it."""


async def rows(peer):
    """How many rows each table has that holds something of models."""
    async with peer.app.state.grid.store.reading() as db:
        return {
            table.name: await db.scalar(select(func.count()).select_from(table))
            for table in metadata.sorted_tables
            if table not in OF_NO_MODEL | STAYS
        }


def blobs(folder):
    return [path for path in (folder / "blobs").rglob("*") if path.is_file()]


async def lived(peer):
    """A model with something in every table that models have rows in."""
    await peer.host(
        server={"max_diffs": 1, "min_workers": 1, "iterative_plan": True},
        averaging_plan=iterative_plan(),
        protocols={"p": ""},
    )
    await (await peer.join()).report(1.0)
    await peer.until_checkpoint(2)
    await told(peer, "set", server_config={"min_workers": 2})
    await told(peer, "stop")
    await peer.until(lambda model: model["phase"] == "finished")


async def test_nothing_is_left_of_it(peer, tmp_path):
    await lived(peer)
    assert await told(peer, "delete") == {"status": "success"}
    assert set((await rows(peer)).values()) == {0}
    assert blobs(tmp_path) == []


async def test_others_stay_as_they_are(peer, tmp_path):
    await peer.host("other", server={"max_diffs": 2})
    await (await peer.join("other")).report(1.0)
    before = await rows(peer), sorted(blobs(tmp_path))
    await lived(peer)
    await told(peer, "delete")
    assert (await rows(peer), sorted(blobs(tmp_path))) == before
    await (await peer.join("other")).report(1.0)
    await peer.until_checkpoint(2, "other")


async def test_it_is_gone_for_every_replica_at_once(open_grid):
    async with open_grid() as one, open_grid() as two:
        for peer in (one, two):
            await peer.http.get("/")
        await lived(one)
        worker_id = await two.authenticate()
        await told(one, "delete")
        for peer in (one, two):
            for call in ("authenticate", "cycle-request"):
                message = {"model_name": "m", "model_version": "1.0", "model": "m", "worker_id": worker_id}
                reply = await peer.post(call, **message)
                assert (reply.status_code, "hosts no model 'm'" in reply.text) == (404, True), reply.text
            reply = await peer.http.get("/model-centric/retrieve-model", params={"name": "m"})
            assert reply.status_code == 404


async def test_its_name_and_version_may_be_hosted_again(open_grid):
    """The new model is another one: neither a worker nor a replica takes it for the old one."""
    async with open_grid() as one, open_grid() as two:
        await one.host(server={"max_diffs": 1}, client={"lr": 0.1})
        old = await two.join()
        await told(one, "delete", force=True)
        await one.host(server={"max_diffs": 1}, client={"lr": 0.7})
        assert (await old.report(9.0)).status_code == 403
        assert (await old.get("get-model", model_id=old.accepted["model_id"])).status_code == 403
        new = await two.join()
        assert new.accepted["client_config"]["lr"] == 0.7
        assert new.accepted["model_id"] != old.accepted["model_id"]
        assert (await two.ask(old.worker_id))["request_key"] != old.request_key
        await new.report(1.0)
        model = await two.until_checkpoint(2)
        assert [row["number"] for row in model["checkpoints"]] == [2, 1]
        assert (await two.checkpoint())[1].tolist() == [-1.0, -1.0]


async def test_a_cycle_that_is_under_way_must_be_given_up_in_words(peer):
    await peer.host(server={"max_diffs": 2})
    worker = await peer.join()
    await worker.report(1.0)
    assert "cycle 1 of 'm' version '1.0' is open, and 1 report would be lost" in await refused(
        peer, "delete", 409
    )
    await told(peer, "delete", force=True)
    assert set((await rows(peer)).values()) == {0}


async def test_it_is_gone_while_a_replica_is_averaging(open_grid, may_average, tmp_path):
    async with open_grid() as one, open_grid() as two:
        await one.host(server={"max_diffs": 1})
        await (await one.join()).report(1.0)
        await one.until(lambda model: model["cycle"]["phase"] == "closing")
        await told(two, "delete", force=True)
        may_average.set()
        await asyncio.sleep(0.3)
        assert set((await rows(two)).values()) == {0}
    assert blobs(tmp_path) == []


@pytest.mark.parametrize("keep_diffs", [False, True])
async def test_what_a_killed_process_left_of_it_is_deleted_at_the_next_start(open_grid, tmp_path, keep_diffs):
    async with open_grid(keep_diffs=keep_diffs) as peer:
        await lived(peer)
        async with peer.app.state.grid.store.writing() as db:
            await removal.delete_process(db, 1)  # and no further
        assert blobs(tmp_path)
    async with open_grid(keep_diffs=keep_diffs) as peer:
        async with asyncio.timeout(10):
            while blobs(tmp_path) or any((await rows(peer)).values()):
                await asyncio.sleep(0.02)
