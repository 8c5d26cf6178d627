"""What a model waits for, and what became of a worker, as the grid tells it."""

import jwt
import pytest

from fedplan.wire.messages import worker_name
from tests.grid.clock import Clock
from tests.grid.service import test_damage as damage
from tests.grid.service.test_events import name_of, until_written
from tests.grid.service.test_vacating import declined


async def why(peer, name="m", **query):
    reply = await peer.http.get("/model-centric/why", params={"name": name, **query})
    assert reply.status_code == 200, reply.text
    return reply.json()


async def of(peer, worker, **query):
    """What became of a worker."""
    id = worker if isinstance(worker, str) else worker.worker_id
    return (await why(peer, worker=id, **query))["worker"]


async def test_a_cycle_that_waits_for_reports(open_grid):
    clock = Clock(1000.0)
    async with open_grid(clock=clock) as peer:
        await peer.host(server={"max_diffs": 8, "num_cycles": 3, "place_timeout": 3600})
        workers = [await peer.join() for _ in range(5)]
        clock.now += 660
        for worker in workers[2:]:
            await worker.report(1)
        told = await why(peer)
        assert (told["phase"], told["num_cycles"], told["lacking"], told["silent"]) == ("training", 3, 5, 2)
        cycle = told["cycle"]
        assert (cycle["number"], cycle["accepted"], cycle["reported"], cycle["limit"]) == (1, 5, 3, 8)
        assert told["silent_since"] == "1970-01-01T00:16:40Z"
        assert told["lapses_at"] == "1970-01-01T01:16:40Z"
        assert "worker" not in told


async def test_a_cycle_that_waits_for_workers_to_ask(peer):
    await peer.host(server={"min_workers": 3})
    await peer.ask(await peer.authenticate())
    told = await why(peer)
    assert (told["min_workers"], told["asking"], told["silent"]) == (3, 1, 0)
    assert "silent_since" not in told


async def test_what_was_refused_in_the_cycle_is_told_by_cause(peer):
    await peer.host(server={"max_workers": 1, "max_diffs": 1, "pool_selection": "iterate"})
    worker = await peer.join()
    for _ in range(3):
        await peer.ask(await peer.authenticate())
    await worker.report(diff="x")
    await until_written(peer, "refused", 2)
    refused = (await why(peer))["refused"]
    assert refused == [
        {"cause": "the cycle is full", "times": 3},
        {"cause": "the diff is not base64", "times": 1},
    ]


async def test_a_model_that_is_finished(peer):
    await peer.host(server={"max_diffs": 1, "num_cycles": 1})
    await (await peer.join()).report(1)
    await peer.until_checkpoint(2)
    told = await why(peer)
    assert (told["phase"], told["cycle"]["phase"]) == ("finished", "done")
    assert "lacking" not in told


async def test_a_model_that_there_is_not(peer):
    reply = await peer.http.get("/model-centric/why", params={"name": "none"})
    assert reply.status_code == 404


@pytest.mark.parametrize("query", [{}, {"name": "m", "worker": "x" * 1001}])
async def test_a_query_that_lacks_something(peer, query):
    assert (await peer.http.get("/model-centric/why", params=query)).status_code == 400


class TestAWorker:
    async def test_that_trains(self, open_grid):
        clock = Clock(1000.0)
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"max_diffs": 2, "place_timeout": 600})
            worker = await peer.join()
            assert await of(peer, worker) == {
                "name": name_of(worker),
                "state": "training",
                "cycle": 1,
                "joined_at": "1970-01-01T00:16:40Z",
                "lapses_at": "1970-01-01T00:26:40Z",
            }
            assert await of(peer, name_of(worker)) == await of(peer, worker)

    async def test_that_has_reported(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        await worker.report(1)
        told = await of(peer, worker)
        assert (told["state"], told["cycle"]) == ("reported", 1)
        assert told["reported_at"] >= told["joined_at"]

    async def test_that_has_declined(self, peer):
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        await declined(worker, reason="no power")
        told = await of(peer, worker)
        assert (told["state"], told["cause"]) == ("without a place", "it gave its place back: no power")

    async def test_that_is_gone(self, open_grid):
        clock = Clock()
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"max_diffs": 50, "place_timeout": 60})
            workers = [await peer.join() for _ in range(25)]
            clock.now += 61
            await until_written(peer, "gone")
            first, last = await of(peer, workers[0]), await of(peer, workers[-1])
            why_gone = "no report came within place_timeout, 60 s"
            assert first["cause"] == f"it was taken for gone: {why_gone}"
            assert last["cause"] == f"it was taken for gone, with 24 others: {why_gone}"

    async def test_whose_cycle_was_extended(self, open_grid):
        clock = Clock()
        async with open_grid(clock=clock) as peer:
            await peer.host(server={"cycle_length": 60, "min_diffs": 2})
            worker = await peer.join()
            clock.now += 61
            await until_written(peer, "extended")
            assert (await of(peer, worker))["cause"] == (
                "it was taken for gone: its time was over, with 0 reports of the 2 needed"
            )

    async def test_that_came_too_late(self, peer):
        await peer.host(server={"max_diffs": 1})
        slow, fast = await peer.join(), await peer.join()
        await fast.report(1)
        await peer.until_checkpoint(2)
        assert (await slow.report(1)).status_code == 409
        told = await of(peer, slow)
        assert (told["state"], told["cause"]) == (
            "without a place",
            "its cycle closed before it had reported",
        )
        assert "the report comes too late" in told["refused_why"]
        assert told["refused_at"] >= told["joined_at"]

    async def test_whose_place_went_to_another_of_its_subject(self, peer):
        secret = "s" * 32
        await peer.host(server={"max_diffs": 3, "authentication": {"secret": secret, "require_exp": False}})
        token = jwt.encode({"sub": "ann"}, secret, "HS256")
        ids = [await peer.authenticate(auth_token=token) for _ in range(2)]
        for id in ids:
            assert (await peer.ask(id))["status"] == "accepted"
        told = await of(peer, ids[0])
        assert (told["state"], "another worker of its subject" in told["cause"]) == (
            "without a place",
            True,
        )
        assert (await of(peer, ids[1]))["state"] == "training"

    async def test_whose_report_was_damaged(self, open_grid, tmp_path):
        async with open_grid(**damage.FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 2})
            (worker,) = await damage.report(peer, 1)
            damage.flipped(tmp_path, (await damage.rows(peer))[0]["diff"])
            await damage.report(peer, 2)
            await until_written(peer, "damaged")
            assert "is damaged or missing" in (await of(peer, worker))["cause"]

    async def test_that_was_refused_is_told_at_once_and_by_another_replica_soon(self, open_grid):
        server = {"max_workers": 1, "max_diffs": 1, "pool_selection": "iterate"}
        async with open_grid() as one, open_grid() as two:
            await one.host(server=server)
            await one.join()
            id = await one.authenticate()
            await one.ask(id)
            told = await of(one, id)
            assert (told["state"], told["refused_why"]) == ("refused", "the cycle is full")
            await until_written(one, "refused")
            again = await of(two, id)
            assert (again["state"], again["refused_why"]) == ("refused", "the cycle is full")

    async def test_that_nobody_knows(self, peer):
        await peer.host()
        assert await of(peer, "nobody") == {"name": worker_name("nobody"), "state": "unknown"}
