import asyncio
import logging
import threading
import time

import numpy as np
import pytest
import torch
from sqlalchemy import text

from fedplan.grid.averaging import reading
from fedplan.grid.averaging.average import Averaged
from fedplan.grid.records import CycleSummary, Lease, Phase
from fedplan.grid.service import closing
from fedplan.grid.service.leases import Held
from fedplan.grid.store import catalogue, participation, rounds
from fedplan.plan import trace
from tests.grid.models import (
    MODEL,
    averaging_plan,
    base64_of,
    diff,
    iterative_plan,
    plan_for_two,
    plan_that_fails_when_diffs_agree,
    state,
)


async def run_cycle(peer, *values, dtype="float32"):
    """One worker per value joins and reports it; returns once the cycle is over."""
    number = (await peer.status())["cycle"]["number"]
    workers = [await peer.join() for _ in values]
    for worker, value in zip(workers, values, strict=True):
        reply = await worker.report(diff=base64_of(diff(value, dtype=dtype)))
        assert reply.status_code == 200, reply.text
    return await peer.until(lambda model: model["cycle"]["number"] > number or model["phase"] == "finished")


class TestTheNewCheckpoint:
    @pytest.mark.parametrize("count", [1, 3, 50])
    async def test_is_the_model_minus_the_mean_of_the_diffs(self, peer, count):
        values = np.random.default_rng(count).normal(size=count)
        await peer.host(server={"max_diffs": count})
        await run_cycle(peer, *values)
        for new, old in zip(await peer.checkpoint(), MODEL, strict=True):
            np.testing.assert_allclose(new, old - values.astype(np.float32).mean(), atol=1e-6)

    async def test_is_what_the_next_cycle_starts_from(self, peer):
        await peer.host(server={"max_diffs": 1, "num_cycles": 3})
        for value in (1, 2, 4):
            await run_cycle(peer, value)
        model = await peer.status()
        assert model["phase"] == "finished"
        assert [checkpoint["number"] for checkpoint in model["checkpoints"]] == [4, 3, 2, 1]
        biases = [(await peer.checkpoint(checkpoint=str(n)))[1][0] for n in (1, 2, 3, 4)]
        assert biases == [0, -1, -3, -7]

    async def test_keeps_integers_whole(self, peer):
        plan = trace(lambda x: x * 2, torch.zeros(3)).serialize()
        model = state(np.full((3, 2), 10), np.full(2, 20), dtype="int64")
        await peer.host(model=model, plans={"p": plan.hex()}, server={"max_diffs": 3})
        await run_cycle(peer, 1, 2, 2, dtype="int64")
        new = await peer.checkpoint()
        assert new[0].dtype == np.int64
        assert (new[0][0, 0], new[1][0]) == (8, 18)  # the mean, 5/3, is rounded to 2

    async def test_may_be_made_by_a_plan_that_takes_the_diffs_one_by_one(self, peer):
        await peer.host(server={"max_diffs": 4, "iterative_plan": True}, averaging_plan=iterative_plan())
        await run_cycle(peer, 1, 2, 3, 10)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 4, atol=1e-6)

    async def test_may_be_made_by_a_plan_that_takes_the_diffs_all_at_once(self, peer):
        await peer.host(averaging_plan=plan_for_two(), server={})
        await run_cycle(peer, 1, 4)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2.5, atol=1e-6)

    async def test_may_be_made_by_a_plan_that_does_something_else(self, peer):
        plan = averaging_plan(lambda a0, a1, b0, b1: (a0 - b0, a1 * b1), 4)
        await peer.host(averaging_plan=plan, server={})
        await run_cycle(peer, 3, 5)
        weights, bias = await peer.checkpoint()
        np.testing.assert_allclose(weights, MODEL[0] + 2)
        np.testing.assert_allclose(bias, MODEL[1] - 15)


class TestAnAverageThatIsNotUsable:
    async def test_makes_no_checkpoint_is_told_and_lets_the_next_cycle_open(self, peer):
        plan = plan_that_fails_when_diffs_agree()
        await peer.host(averaging_plan=plan, server={"num_cycles": 2})
        model = await run_cycle(peer, 1, 1)
        assert [checkpoint["number"] for checkpoint in model["checkpoints"]] == [1]
        assert "tensor 0 holds NaN" in model["last_failure"]
        assert (model["cycle"]["number"], model["cycle"]["phase"]) == (2, "open")
        for ours, hosted in zip(await peer.checkpoint(), MODEL, strict=True):
            np.testing.assert_array_equal(ours, hosted)
        model = await run_cycle(peer, 3, 1)
        assert [checkpoint["number"] for checkpoint in model["checkpoints"]] == [2, 1]
        np.testing.assert_allclose((await peer.checkpoint())[0], MODEL[0] - 2)

    async def test_ends_the_training_when_it_was_the_last_cycle(self, peer):
        plan = plan_that_fails_when_diffs_agree()
        await peer.host(averaging_plan=plan, server={"num_cycles": 1})
        model = await run_cycle(peer, 1, 1)
        assert model["phase"] == "finished"
        assert model["cycle"]["phase"] == "failed"
        assert model["cycle"]["failure"] == model["last_failure"]
        assert model["failed_cycle"] == model["cycle"]["number"]

    async def test_may_come_of_good_diffs_to_a_model_at_its_limit(self, peer):
        greatest = np.finfo(np.float32).max
        await peer.host(
            server={"max_diffs": 2},
            model=state(np.full((3, 2), greatest), np.zeros(2)),
            averaging_plan=averaging_plan(lambda a0, a1, b0, b1: (-a0, b1), 4),
        )
        model = await run_cycle(peer, greatest, greatest)
        assert "the changed model is not usable" in model["last_failure"]


class TestTime:
    """The clock is set by hand; the closer looks every 50 ms."""

    @pytest.fixture
    async def timed(self, open_grid):
        self.now = 1000.0
        async with open_grid(clock=lambda: self.now) as peer:
            yield peer

    async def test_closes_a_cycle_that_has_enough(self, timed):
        await timed.host(server={"cycle_length": 60, "min_diffs": 2})
        for value in (1, 2, 3):
            await (await timed.join()).report(value)
        self.now += 59
        await asyncio.sleep(0.15)
        assert (await timed.status())["cycle"]["number"] == 1
        self.now += 1
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)
        assert (await timed.status())["cycle"]["closes_at"] == "1970-01-01T00:18:40Z"

    async def test_extends_a_cycle_that_has_too_few_and_keeps_their_reports(self, timed):
        await timed.host(server={"cycle_length": 60, "min_diffs": 2})
        await (await timed.join()).report(1)
        self.now += 61
        model = await timed.until(lambda model: model["cycle"]["closes_at"] == "1970-01-01T00:18:41Z")
        assert model["cycle"]["number"] == 1
        assert model["cycle"]["reported"] == 1
        await (await timed.join()).report(3)
        self.now += 60
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)

    async def test_gives_the_place_of_a_worker_that_vanished_to_another(self, timed):
        await timed.host(server={"cycle_length": 60, "max_workers": 1, "pool_selection": "iterate"})
        await timed.join()  # and is never heard of again
        assert (await timed.ask(await timed.authenticate()))["status"] == "rejected"
        self.now += 60
        await timed.until(lambda model: model["cycle"]["accepted"] == 0)
        await (await timed.join()).report(1)
        await timed.until_checkpoint(2)

    async def test_lets_a_slow_worker_report_as_long_as_the_cycle_is_open(self, timed):
        await timed.host(server={"cycle_length": 60, "min_diffs": 2})
        slow = await timed.join()
        self.now += 60
        await timed.until(lambda model: model["cycle"]["accepted"] == 0)
        assert (await slow.report(1)).status_code == 200
        assert (await timed.status())["cycle"]["accepted"] == 1
        await (await timed.join()).report(3)
        self.now += 60
        await timed.until_checkpoint(2)
        np.testing.assert_allclose((await timed.checkpoint())[1], MODEL[1] - 2)

    async def test_waits_for_a_slow_worker_however_often_it_is_extended(self, timed):
        """Where there are only as many workers as it needs, no cycle comes without each of them."""
        await timed.host(server={"cycle_length": 60, "min_diffs": 2})
        slow = await timed.join()
        async with timed.app.state.grid.store.writing() as db:  # it had its place nine times before
            await db.execute(text("UPDATE assignments SET grants = 10"))
        await (await timed.join()).report(1)
        self.now += 60
        await timed.until(lambda model: model["cycle"]["accepted"] == 1)
        answer = await timed.ask(slow.worker_id)
        assert answer["status"] == "accepted"
        assert (await slow.report(3, request_key=answer["request_key"])).status_code == 200
        self.now += 60
        await timed.until_checkpoint(2)

    async def test_lets_a_worker_that_lost_its_place_ask_again_with_the_same_id(self, timed):
        await timed.host(server={"cycle_length": 60, "max_diffs": 1})
        worker = await timed.join()
        self.now += 60
        await timed.until(lambda model: model["cycle"]["accepted"] == 0)
        answer = await timed.ask(worker.worker_id)
        assert answer["status"] == "accepted"
        assert answer["request_key"] != worker.request_key
        assert (await worker.report(1)).status_code == 403  # the old key is no longer good
        assert (await worker.report(1, request_key=answer["request_key"])).status_code == 200
        await timed.until_checkpoint(2)

    async def test_closes_cycles_by_itself(self, peer):
        await peer.host(server={"cycle_length": 0.3, "num_cycles": 2})
        await (await peer.join()).report(1)
        await peer.until_checkpoint(2)
        assert (await peer.status())["cycle"]["number"] == 2


class TestReplicas:
    async def test_that_share_a_store_close_each_cycle_once(self, open_grid):
        async with open_grid() as one, open_grid() as two, open_grid() as three:
            await one.host(server={"max_diffs": 3, "num_cycles": 5})
            for _ in range(5):
                workers = [await peer.join() for peer in (one, two, three)]
                number = (await one.status())["cycle"]["number"]
                await asyncio.gather(*(worker.report(1) for worker in workers))
                await two.until_checkpoint(number + 1)
            model = await three.status()
            assert model["phase"] == "finished"
            np.testing.assert_allclose((await one.checkpoint())[1], MODEL[1] - 5)

    async def test_let_a_worker_use_any_of_them_for_any_call(self, open_grid):
        async with open_grid() as one, open_grid() as two:
            await one.host()
            worker_id = await one.authenticate()
            accepted = await two.ask(worker_id)
            query = {
                "worker_id": worker_id,
                "request_key": accepted["request_key"],
                "model_id": accepted["model_id"],
            }
            assert (await one.http.get("/model-centric/get-model", params=query)).status_code == 200
            report = {
                "worker_id": worker_id,
                "request_key": accepted["request_key"],
                "diff": base64_of(diff(1)),
            }
            assert (await two.post("report", **report)).status_code == 200
            await one.until_checkpoint(2)

    async def test_a_cycle_whose_replica_died_closing_it_is_closed_by_another(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now, lease_seconds=30) as peer:
            await peer.host(server={"max_diffs": 2})
            await (await peer.join()).report(1)
            await leased(peer, "a dead replica")
            await (await peer.join()).report(2)
            await asyncio.sleep(0.15)
            now += 29
            await asyncio.sleep(0.15)
            assert (await peer.status())["cycle"]["phase"] == "closing"
            now += 1
            await peer.until_checkpoint(2)

    async def test_a_lease_that_is_renewed_is_left_to_its_replica(self, open_grid):
        now = 1000.0
        async with open_grid(clock=lambda: now, lease_seconds=30) as peer:
            await peer.host(server={"max_diffs": 2})
            await (await peer.join()).report(1)
            lease = await leased(peer, "another replica")
            await (await peer.join()).report(2)
            for _ in range(3):
                await asyncio.sleep(0.15)
                now += 20
                lease = await leased(peer, "another replica", lease)
            assert lease is not None
            assert (await peer.status())["cycle"]["phase"] == "closing"
            now += 20
            await asyncio.sleep(0.15)
            now += 30
            await peer.until_checkpoint(2)

    @pytest.mark.parametrize("thief", ["another replica", "itself"])
    async def test_a_replica_that_lost_its_lease_writes_nothing(self, peer, tmp_path, caplog, thief):
        """Not even where it has the lease again since: then something else of it closes the cycle."""
        thief = peer.app.state.grid.replica if thief == "itself" else thief
        await peer.host(server={"max_diffs": 2})
        grid = peer.app.state.grid
        await (await peer.join()).report(1)
        own = await leased(peer, grid.replica)
        assert await leased(peer, thief, own)
        async with grid.store.writing() as db:
            await rounds.set_closing(db, 1)
            cycle = await participation.get_cycle(db, 1)
            process = await catalogue.get_process(db, cycle.process_id)
        blob = await grid.blobs.put("models", b"stale")
        caplog.set_level(logging.WARNING)
        summary = CycleSummary(1, 0.0, {})
        await closing._end(grid, process, cycle, own, closing.Outcome(Averaged(blob, None, summary)))
        assert "was closed by another replica" in caplog.text
        assert not (tmp_path / "blobs" / blob).exists()
        assert [c["number"] for c in (await peer.status())["checkpoints"]] == [1]

    async def test_a_lease_is_renewed_while_a_cycle_is_averaged(self, open_grid):
        async with open_grid(lease_seconds=0.3) as one, open_grid(lease_seconds=0.3):
            await one.host(server={"max_diffs": 2})
            grid = one.app.state.grid
            await (await one.join()).report(1)
            held = Held(grid, await leased(one, grid.replica))
            async with held.kept():
                async with grid.store.writing() as db:
                    await rounds.set_closing(db, 1)
                await asyncio.sleep(0.9)  # the other replica looks every 50 ms
                assert (await one.status())["cycle"]["phase"] == Phase.CLOSING
            assert held.lease.counter > 2
            await one.until_checkpoint(2)

    async def test_of_two_that_see_a_lease_free_one_takes_it(self, open_grid):
        async with open_grid() as one, open_grid() as two:
            await one.host(server={"max_diffs": 2})
            taken = [await leased(peer, peer.app.state.grid.replica, FREE) for peer in (one, two, one)]
            assert taken == [Lease(1, one.app.state.grid.replica, 1), None, None]


FREE = Lease(1, None, 0)


async def leased(peer, owner, seen=FREE):
    """The lease of the first cycle, once a replica has it."""
    async with peer.app.state.grid.store.writing() as db:
        return await rounds.take_lease(db, seen, owner)


async def test_an_unexpected_fault_is_logged_and_closing_is_tried_again(open_grid, tmp_path, caplog):
    models, away = tmp_path / "blobs" / "models", tmp_path / "away"
    late = 0.0
    async with open_grid(lease_seconds=0.2, clock=lambda: time.time() + late) as peer:
        await peer.host(server={"cycle_length": 1000, "min_diffs": 1})
        assert (await (await peer.join()).report(1)).status_code == 200
        models.rename(away)
        models.touch()  # a file where the folder was: nothing can be read from it or written to it
        late = 1000.0
        async with asyncio.timeout(5):
            while "closing cycle 1 failed" not in caplog.text:
                await asyncio.sleep(0.01)
        models.unlink()
        away.rename(models)
        await peer.until_checkpoint(2)


async def test_a_cycle_whose_averaging_plan_is_damaged_waits_for_it(open_grid, tmp_path, caplog):
    async with open_grid(lease_seconds=0.2) as peer:
        await peer.host(averaging_plan=plan_for_two(), server={})
        whole = {blob: blob.read_bytes() for blob in (tmp_path / "blobs" / "plans").iterdir()}
        for blob in whole:
            blob.write_bytes(b"\xff\xff")
        for value in (1, 3):
            assert (await (await peer.join()).report(value)).status_code == 200
        async with asyncio.timeout(5):
            while "is damaged" not in caplog.text:
                await asyncio.sleep(0.01)
        for blob, data in whole.items():
            blob.write_bytes(data)
        await peer.until_checkpoint(2)


async def test_a_model_that_is_slow_to_average_does_not_delay_another(peer, monkeypatch):
    may_go_on, with_folded = threading.Event(), reading.with_folded

    def slow(*averaged):
        assert may_go_on.wait(10)
        return with_folded(*averaged)

    monkeypatch.setattr(reading, "with_folded", slow)
    await peer.host("slow", averaging_plan=plan_for_two(), server={})
    await peer.host("fast")
    for _ in range(2):
        await (await peer.join("slow")).report(1)
    await (await peer.join("fast")).report(1)
    await peer.until_checkpoint(2, "fast")
    assert (await peer.status("slow"))["cycle"]["phase"] == "closing"
    may_go_on.set()
    await peer.until_checkpoint(2, "slow")


async def test_reports_that_wait_are_averaged_after_a_restart(open_grid):
    async with open_grid() as peer:
        await peer.host(server={"max_diffs": 2})
        worker = await peer.join()
        await (await peer.join()).report(1)
    async with open_grid() as peer:
        worker.peer = peer
        assert (await worker.report(2)).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 1.5)
