"""Averaging Plans run in a process of their own, which is killed when it takes too much; nobody else is."""

import asyncio
import os
import signal
import threading
import time

import numpy as np
import pytest
import torch

from fedplan.errors import AggregationError
from fedplan.federation import average_by_plan
from fedplan.grid.averaging import apart
from fedplan.grid.averaging.apart import Apart, Bounds, memory_of_machine
from fedplan.plan import Limits, Plan, trace
from tests.federation.made import random_diffs, setting
from tests.grid.models import SHAPES, averaging_plan, hosting, iterative_plan

LAYOUT = tuple((shape, "float32") for shape in SHAPES)
ITERATIVE = {"iterative_plan": True}
ENOUGH = Bounds(2**30, 60.0)


class Unforeseen(Bounds):
    """Bounds of what is not foreseen."""

    @property
    def limits(self):
        return Limits()


def hungry():
    """A Plan for two diffs that fills 400 MB."""

    def step(a0, a1, b0, b1):
        wide = torch.zeros(100_000_000) + a0.sum()
        return a0 + b0 + 0 * (wide * wide).sum(), a1 + b1

    return averaging_plan(step, 4)


def slow():
    """An iterative Plan that computes for some hundredths of a second with each diff."""

    def step(a0, a1, i0, i1, num):
        wide = torch.zeros(600, 600) + i0.sum()
        return a0 + i0 + 0 * (wide @ wide @ wide).sum(), a1 + i1 * num

    return averaging_plan(step, 5)


def fold(plan, server, bounds=ENOUGH, diffs=3):
    of = setting(server, layout=LAYOUT)
    return Apart(bounds).fold(lambda: plan, of)(iter(random_diffs(diffs, LAYOUT)))


def processes():
    return [process._process.pid for process in apart._idle._processes]


def test_the_average_is_the_one_that_the_plan_makes_here_bit_by_bit_and_the_process_is_used_again():
    expected = average_by_plan(
        Plan.parse(iterative_plan()), iter(random_diffs(3, LAYOUT)), LAYOUT, iterative=True
    )
    for _ in range(2):
        made = fold(iterative_plan(), ITERATIVE)
        assert [tensor.array.tobytes() for tensor in made] == [t.array.tobytes() for t in expected]
        pids = processes()
        assert os.getpid() not in pids
    assert processes() == pids


def test_a_plan_that_fails_says_so_and_harms_no_other():
    fails = trace(lambda x: x.reshape(7), torch.zeros(7)).serialize()
    with pytest.raises(AggregationError, match="failed"):
        fold(fails, {})
    assert len(fold(iterative_plan(), ITERATIVE)) == 2


def test_diffs_that_cannot_be_read_are_told_as_they_are_and_the_next_plan_runs():
    def diffs():
        yield random_diffs(1, LAYOUT)[0]
        raise FileNotFoundError("a blob")

    of = setting(ITERATIVE, layout=LAYOUT)
    with pytest.raises(FileNotFoundError, match="a blob"):
        Apart(ENOUGH).fold(iterative_plan, of)(diffs())
    assert len(fold(iterative_plan(), ITERATIVE)) == 2


def test_a_plan_that_takes_too_much_memory_is_stopped():
    with pytest.raises(AggregationError, match="it took more than 200,000,000 bytes"):
        fold(hungry(), {}, Unforeseen(200_000_000, 60.0), diffs=2)


def test_a_plan_that_would_take_too_much_by_its_estimate_is_not_run():
    with pytest.raises(AggregationError, match="are allowed"):
        fold(hungry(), {}, Bounds(50_000_000, 60.0), diffs=2)


def test_a_plan_that_computes_too_long_is_stopped():
    with pytest.raises(AggregationError, match=r"it computed for more than 0\.3 s"):
        fold(slow(), ITERATIVE, Unforeseen(2**30, 0.3), diffs=2000)


def test_the_time_in_which_the_next_diff_is_read_is_not_the_plans():
    fold(iterative_plan(), ITERATIVE)  # the process is there

    def diffs():
        for diff in random_diffs(3, LAYOUT):
            time.sleep(0.1)
            yield diff

    Apart(Unforeseen(2**30, 0.25)).fold(iterative_plan, setting(ITERATIVE, layout=LAYOUT))(diffs())


def test_a_process_that_does_not_start_in_time_is_ended(monkeypatch):
    apart._idle.end()
    monkeypatch.setattr(apart, "_START_SECONDS", 0.01)
    with pytest.raises(OSError, match=r"could not be started \(it did not answer in 0\.01 s\)"):
        fold(slow(), ITERATIVE)
    assert processes() == []


def test_none_of_the_grids_secrets_is_in_the_environment(monkeypatch):
    monkeypatch.setenv("FEDPLAN_OWNER_TOKEN", "a secret of the grid")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a secret of the grid")
    told = apart._environment()
    assert "PATH" in told
    assert "a secret of the grid" not in told.values()


def test_idle_processes_end():
    fold(iterative_plan(), ITERATIVE)
    pids = processes()
    apart._idle.end(3600.0)
    assert processes() == pids
    apart._idle.end()
    assert processes() == []
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_the_machine_has_memory():
    assert 2**28 < memory_of_machine() < 2**50


class TestOnAGrid:
    async def test_a_killed_process_fails_its_cycle_and_nothing_else(self, open_grid, monkeypatch):
        taken = threading.Event()
        average = apart._Process.average

        def watched(process, plan, of, diffs, bounds):
            def killed():
                yield next(diffs)
                os.kill(process._process.pid, signal.SIGKILL)
                taken.set()
                yield from diffs

            return average(process, plan, of, killed(), bounds)

        async with open_grid() as peer:
            await peer.host(server={"max_diffs": 2, **ITERATIVE}, averaging_plan=iterative_plan())
            monkeypatch.setattr(apart._Process, "average", watched)
            for worker in [await peer.join(), await peer.join()]:
                assert (await worker.report(1.0)).status_code == 200
            async with asyncio.timeout(30):
                while (await peer.status())["cycle"]["number"] < 2:
                    await asyncio.sleep(0.02)
            assert taken.is_set()
            monkeypatch.undo()
            status = await peer.status()
            why = "its process ended by itself, or somebody ended it (SIGKILL)"
            assert why in status["last_failure"]
            [failed] = [
                e
                for e in (await peer.http.get("/model-centric/events")).json()["events"]
                if e["kind"] == "failed"
            ]
            assert why in failed["cause"]
            for worker in [await peer.join(), await peer.join()]:
                assert (await worker.report(2.0)).status_code == 200
            await peer.until_checkpoint(2)
            np.testing.assert_allclose((await peer.checkpoint())[1], [-2.0, -2.0])

    async def test_what_is_estimated_to_take_more_than_the_grid_allows_is_not_hosted(self, open_grid):
        async with open_grid(averaging_bytes=100_000_000) as peer:
            reply = await peer.post("host-training", **hosting(server={}, averaging_plan=hungry()))
            assert reply.status_code == 400
            assert "averaging Plan cannot be hosted" in reply.json()["error"]
            assert "50,000,000 are allowed" in reply.json()["error"]

    async def test_the_work_of_all_its_calls_counts(self, open_grid):
        async with open_grid(averaging_seconds=3e-7) as peer:  # 3,000 operations on numbers
            for reports, status in ((2, 200), (9, 400)):
                asked = hosting(
                    f"m{reports}",
                    server={"max_diffs": reports, **ITERATIVE},
                    averaging_plan=iterative_plan(),
                )
                reply = await peer.post("host-training", **asked)
                assert reply.status_code == status, reply.text
