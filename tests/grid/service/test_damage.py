"""What is damaged on disk costs that piece only: the others are kept, and nothing damaged is used or sent."""

import asyncio
import os

import numpy as np
import pytest
from sqlalchemy import select

from fedplan.grid.records import Lease, Phase
from fedplan.grid.service import closing
from fedplan.grid.service.leases import Held
from fedplan.grid.store import catalogue, participation, reports, rounds
from fedplan.grid.store.tables import assignments
from fedplan.wire import MetricMean, State, Summary, with_summary
from tests.grid.models import MODEL, base64_of, diff, iterative_plan, plan_for_two
from tests.grid.service import test_evaluating as evaluating
from tests.grid.serving.test_server import continued

FROM_BLOBS = {"sums_bytes": 0}
"""A grid that adds nothing up in memory, and so reads all diffs when it closes a cycle."""


def flip(path, at):
    """Changes one bit of a file."""
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def stored(folder, key):
    """The file of a blob, and where in it the blob begins."""
    name, _, where = key.partition("@")
    return folder / "blobs" / name, int(where.partition("+")[0] or 0)


def flipped(folder, key):
    path, start = stored(folder, key)
    flip(path, start + 60)


def cut(folder, key):
    path, start = stored(folder, key)
    os.truncate(path, start + 60)


def gone(folder, key):
    stored(folder, key)[0].unlink()


async def rows(peer):
    """The reports' rows, in the order of joining."""
    async with peer.app.state.grid.store.reading() as db:
        found = await db.execute(select(assignments).order_by(assignments.c.id))
        return list(found.mappings())


async def report(peer, *values):
    """A worker for each value; returns them."""
    workers = []
    for value in values:
        workers.append(await peer.join())
        reply = await workers[-1].report(value)
        assert reply.status_code == 200, reply.text
    return workers


async def bias(peer, name="m"):
    return float((await peer.checkpoint(name))[1][0])


async def until_waiting(peer, reported):
    """Waits until the cycle is open with so many reports."""
    return (await peer.until(lambda m: m["cycle"]["phase"] == "open" and m["cycle"]["reported"] == reported))[
        "cycle"
    ]


async def logged(caplog, text):
    async with asyncio.timeout(5):
        while text not in caplog.text:
            await asyncio.sleep(0.01)


async def metric(peer, line):
    return line in (await peer.http.get("/metrics")).text.splitlines()


class TestADamagedDiff:
    @pytest.mark.parametrize("damage", [flipped, cut, gone])
    async def test_is_left_out_and_the_cycle_waits_for_another(self, open_grid, tmp_path, caplog, damage):
        async with open_grid(**FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 4})
            await report(peer, 1, 2)
        async with open_grid(**FROM_BLOBS) as peer:  # another file for its diffs
            await report(peer, 6)
            key = (await rows(peer))[2]["diff"]
            damage(tmp_path, key)
        async with open_grid(**FROM_BLOBS) as peer:
            await report(peer, 3)
            cycle = await until_waiting(peer, 3)
            assert (cycle["accepted"], cycle["damaged"]) == (3, 1)
            lost = (await rows(peer))[2]
            assert (lost["damaged"], lost["diff"], lost["reported_at"]) == (key, None, None)
            assert [row["damaged"] for row in await rows(peer)].count(None) == 3
            await logged(caplog, key)
            assert "3 of 4, 1 damaged" in (await peer.http.get("/")).text
            assert await metric(peer, 'fedplan_reports_total{outcome="damaged"} 1.0')
            assert await metric(peer, 'fedplan_model_cycle_damaged{model="m",version="1.0"} 1.0')
            await report(peer, 8)
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-(1 + 2 + 3 + 8) / 4)

    async def test_is_left_out_of_a_cycle_that_has_enough_without_it(self, open_grid, tmp_path):
        now = 1000.0
        async with open_grid(clock=lambda: now, **FROM_BLOBS) as peer:
            await peer.host(server={"cycle_length": 60, "min_diffs": 2})
            await report(peer, 1, 5, 3)
            flipped(tmp_path, (await rows(peer))[1]["diff"])
            now += 60
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-2)
            history = (await peer.http.get("/model-centric/history", params={"name": "m"})).json()["rows"]
            assert [(row["reports"], row["damaged"]) for row in history] == [(2, 1)]

    async def test_lets_a_cycle_whose_time_is_over_go_on_where_too_few_are_left(self, open_grid, tmp_path):
        now = 1000.0
        async with open_grid(clock=lambda: now, **FROM_BLOBS) as peer:
            await peer.host(server={"cycle_length": 60, "min_diffs": 2})
            await report(peer, 1, 5)
            flipped(tmp_path, (await rows(peer))[1]["diff"])
            now += 60
            await until_waiting(peer, 1)
            async with asyncio.timeout(5):
                while not await metric(peer, 'fedplan_cycles_total{outcome="extended"} 1.0'):
                    await asyncio.sleep(0.01)
            await report(peer, 3)
            now += 60
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-2)

    async def test_may_be_sent_again_by_its_worker(self, open_grid, tmp_path):
        async with open_grid(**FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 2})
            (worker,) = await report(peer, 5)
            flipped(tmp_path, (await rows(peer))[0]["diff"])
            await report(peer, 1)
            await until_waiting(peer, 1)
            assert (await worker.report(5)).status_code == 200
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-3)

    async def test_costs_its_neighbours_in_the_file_nothing(self, open_grid, tmp_path):
        """All that stands behind a cut is lost, and nothing before it."""
        async with open_grid(**FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 6})
            await report(peer, 1, 2, 3, 4, 5)
            third = (await rows(peer))[2]["diff"]
            path, start = stored(tmp_path, third)
            before = path.read_bytes()[:start]
            cut(tmp_path, third)
        async with open_grid(**FROM_BLOBS) as peer:
            await report(peer, 6)
            await until_waiting(peer, 3)
            assert [row["damaged"] is None for row in await rows(peer)] == [True, True, *[False] * 3, True]
            assert path.read_bytes()[:start] == before
            await report(peer, 7, 8, 9)
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-(1 + 2 + 6 + 7 + 8 + 9) / 6)

    async def test_that_is_in_the_sum_already_is_not_missed(self, peer, tmp_path):
        await peer.host(server={"max_diffs": 3})
        await report(peer, 1, 5)
        flipped(tmp_path, (await rows(peer))[0]["diff"])
        await report(peer, 3)
        await peer.until_checkpoint(2)
        assert await bias(peer) == pytest.approx(-3)

    async def test_is_left_out_of_a_sum_that_is_formed_after_a_start(self, open_grid, tmp_path):
        async with open_grid() as peer:
            await peer.host(server={"max_diffs": 4})
            await report(peer, 1, 5, 3)
            keys = [row["diff"] for row in await rows(peer)]
        flipped(tmp_path, keys[1])
        async with open_grid() as peer:
            async with asyncio.timeout(5):
                while not (sums := peer.app.state.grid.tallies._sums) or len(sums[1]._tally.counted) < 2:
                    await asyncio.sleep(0.01)
            await report(peer, 8)
            await until_waiting(peer, 3)
            assert len(peer.app.state.grid.tallies._sums[1]._tally.counted) == 3  # nothing is read again
            await report(peer, 4)
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-4)

    async def test_that_is_missing_after_a_start_is_waited_for_too(self, open_grid, tmp_path):
        async with open_grid() as peer:
            await peer.host(server={"max_diffs": 2})
            await report(peer, 5)
            key = (await rows(peer))[0]["diff"]
        gone(tmp_path, key)
        async with open_grid() as peer:
            await report(peer, 1)
            await until_waiting(peer, 1)
            await report(peer, 3)
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-2)

    @pytest.mark.some(3)
    @pytest.mark.parametrize("plan", ["median", "iterative", "at once"])
    async def test_is_left_out_whatever_the_strategy(self, peer, tmp_path, plan):
        if plan == "median":
            await peer.host(server={"max_diffs": 3, "strategy": "median"})
        elif plan == "iterative":
            await peer.host(server={"max_diffs": 2, "iterative_plan": True}, averaging_plan=iterative_plan())
        else:
            await peer.host(server={}, averaging_plan=plan_for_two())
        few = [2] if plan == "median" else []
        await report(peer, 100, *few)
        flipped(tmp_path, (await rows(peer))[0]["diff"])
        await report(peer, 1)
        await until_waiting(peer, 1 + len(few))
        await report(peer, 3)
        await peer.until_checkpoint(2)
        assert (await peer.status())["cycle"]["number"] == 2
        assert await bias(peer) == pytest.approx(-2)

    async def test_of_an_older_grid_is_known_by_what_cannot_be_read(self, open_grid, tmp_path):
        async with open_grid(**FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 2})
            await report(peer, 1)
            grid = peer.app.state.grid
            key = (await rows(peer))[0]["diff"]
            async with grid.store.writing() as db:  # as a grid without checksums wrote it
                await db.execute(assignments.update().values(diff=key.rpartition(".")[0]))
            path, start = stored(tmp_path, key)
            path.write_bytes(path.read_bytes()[:start] + b"\xff" * 200)
            await report(peer, 2)
            await until_waiting(peer, 1)

    async def test_in_a_cycle_of_evaluation_is_left_out_too(self, open_grid, tmp_path):
        async with open_grid(**FROM_BLOBS) as peer:
            await evaluating.host(peer, evaluation={"reports": 2})
            await evaluating.finish(peer)
            for loss in (100.0, 1.0, 3.0):
                worker = await evaluating.join(peer)
                reply = await worker.report(diff=base64_of(evaluating.measurement(loss)))
                assert reply.status_code == 200
                if loss == 100.0:
                    path, start = stored(tmp_path, (await rows(peer))[1]["diff"])
                    flip(path, start + 10)
                elif loss == 1.0:
                    await until_waiting(peer, 1)
            await evaluating.closed(peer)
            row = (await evaluating.history(peer))[-1]
            assert (row["task"], row["reports"], row["damaged"]) == ("evaluation", 2, 1)
            assert row["metrics"]["loss"] == {"value": 2.0, "weight": 20.0, "workers": 2}

    async def test_is_noted_only_by_who_holds_the_lease(self, open_grid):
        """Else another replica has closed the cycle, and deleted the diffs, meanwhile."""
        async with open_grid(**FROM_BLOBS) as peer:
            await peer.host(server={"max_diffs": 2})
            await report(peer, 1)
            grid = peer.app.state.grid
            async with grid.store.writing() as db:
                own = await rounds.take_lease(db, Lease(1, None, 0), grid.replica)
                assert await rounds.take_lease(db, own, "another replica")
                await rounds.set_closing(db, 1)
                cycle = await participation.get_cycle(db, 1)
                process = await catalogue.get_process(db, cycle.process_id)
            key = (await rows(peer))[0]["diff"]
            assert not await closing._leave_out(grid, process, cycle, Held(grid, own), (key,))
            (row,) = await rows(peer)
            assert (row["damaged"], row["diff"]) == (None, key)
            async with grid.store.reading() as db:
                assert (await participation.get_cycle(db, 1)).phase is Phase.CLOSING


async def test_a_store_that_is_away_costs_no_report(open_grid, tmp_path, caplog):
    """An empty folder where the blobs were, such as one on which a disk should be mounted."""
    async with open_grid(lease_seconds=0.3, **FROM_BLOBS) as peer:
        await peer.host(server={"max_diffs": 2})
        last = await peer.join()
        await report(peer, 1)
        async with peer.app.state.grid.store.writing() as db:  # so that it does not close at once
            await rounds.take_lease(db, Lease(1, None, 0), "another replica")
        assert (await last.report(3)).status_code == 200
        (tmp_path / "blobs").rename(tmp_path / "away")
        (tmp_path / "blobs").mkdir()
        await logged(caplog, "closing cycle 1 failed")
        assert [row["damaged"] for row in await rows(peer)] == [None, None]
        (tmp_path / "blobs").rmdir()
        (tmp_path / "away").rename(tmp_path / "blobs")
        await peer.until_checkpoint(2)
        assert await bias(peer) == pytest.approx(-2)


class TestADamagedModel:
    @pytest.mark.parametrize("remembered", [0, 1 << 20], ids=["large", "small"])
    async def test_is_not_sent(self, open_grid, tmp_path, caplog, remembered):
        async with open_grid(remembered_bytes=remembered) as peer:
            await peer.host()
            worker = await peer.join()
            (model,) = (tmp_path / "blobs" / "models").iterdir()
            flip(model, 40)
            replies = [
                await peer.http.get("/model-centric/retrieve-model", params={"name": "m"}),
                await worker.get("get-model", model_id=worker.accepted["model_id"]),
            ]
            for reply in replies:
                assert reply.status_code == 503
                assert "retry-after" in reply.headers
                assert reply.json()["error"].startswith("the grid cannot read or write its storage")
            assert model.name in caplog.text
            assert await metric(peer, 'fedplan_damaged_total{kind="models"} 2.0')

    @pytest.mark.parametrize("damage", ["flipped", "gone"])
    async def test_stops_its_cycle_until_it_is_whole_again(self, open_grid, tmp_path, caplog, damage):
        async with open_grid(lease_seconds=0.3) as peer:
            await peer.host(server={"max_diffs": 2})
            await report(peer, 1)
            (model,) = (tmp_path / "blobs" / "models").iterdir()
            whole = model.read_bytes()
            flip(model, 40) if damage == "flipped" else model.unlink()
            await report(peer, 3)
            status = await peer.until(lambda one: "fault" in one)
            assert status["cycle"]["phase"] == "closing"
            assert "cycle 1 cannot be closed" in status["fault"]
            await logged(caplog, model.name)
            model.write_bytes(whole)
            await peer.until_checkpoint(2)
            assert await bias(peer) == pytest.approx(-2)
            assert "fault" not in await peer.status()


class TestADamagedState:
    async def test_stops_its_cycle_until_it_is_whole_again(self, open_grid, tmp_path):
        async with open_grid(lease_seconds=0.3) as peer:
            await peer.host(server={"max_diffs": 1, "strategy": {"name": "fedadam", "lr": 0.5}})
            await report(peer, 1)
            await peer.until_checkpoint(2)
            (state,) = (tmp_path / "blobs" / "states").iterdir()
            flip(state, 20)
            await report(peer, 1)
            await peer.until(lambda one: "fault" in one)
            flip(state, 20)
            await peer.until_checkpoint(3)


async def test_a_report_of_what_was_measured_beside_a_training_is_left_out(open_grid, tmp_path):
    """It counts for no goal: the cycle closes without it."""
    async with open_grid(**FROM_BLOBS) as peer:
        await peer.host(server={"max_diffs": 1})
        worker = await peer.join()
        grid = peer.app.state.grid
        told = Summary(evaluation={"accuracy": MetricMean(0.5, 10.0)})
        key = await grid.blobs.add(f"diffs/{grid.store.id}/1", with_summary(State.of([]).serialize(), told))
        async with grid.store.writing() as db:
            await db.execute(
                assignments.insert().values(
                    cycle_id=1, worker_id="w", identity="w", key_digest="k", accepted_at=0.0, released=False,
                    reported_at=1.0, diff=key, counted_in=1, aside=True,
                )
            )  # fmt: skip
        async with grid.store.writing() as db:
            cycle = await reports.leave_out(db, 1, (key,))
        assert cycle.reported == 0
        assert cycle.damaged == 1
        assert (await continued(peer, worker).report(diff=base64_of(diff(2)))).status_code == 200
        await peer.until_checkpoint(2)
        np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 2)
