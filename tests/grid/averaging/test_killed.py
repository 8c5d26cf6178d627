"""Strategies with a state, on a grid that is killed: it ends in the very bits in which one ends that is not.

So do two that share a store, and merge what each has published of its sums.

Reports come one after the other, each when the one before was acknowledged, so that both grids see the same.
The long form, ``FEDPLAN_LONG=1``, kills the grid of each strategy in every cycle.
"""

import os
import subprocess
import time

import httpx
import numpy as np
import pytest
import torch
from torch import nn

from fedplan import ControlVariates, model_parameters, training_plan
from fedplan.plan import Role, from_torch
from fedplan.wire import State, Summary, WireTensor, with_summary
from tests.grid.models import base64_of, hosting
from tests.long import LONG, only_in_the_long_form
from tests.processes import Process

CYCLES, WORKERS = 4, 3
NEVER: frozenset[tuple[int, int]] = frozenset()
KILLS = frozenset({(1, 0), (1, 2), (2, 1), (3, 2), (4, 0), (4, 2)} if LONG else {(2, 2)})
"""The grid is killed when it has acknowledged these reports, each a (cycle, report). Report 2 is the last one
of a cycle: the grid is then closing it."""


class Killable:
    """A grid in a process of its own."""

    def __init__(self, folder):
        self.folder = folder
        self.start()

    def start(self):
        own = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLAN_")}
        environment = own | {"FEDPLAN_POLL_SECONDS": "0.05", "FEDPLAN_LEASE_SECONDS": "0.3"}
        serve = ("-m", "fedplan", "serve", "--port", 0, "--data", self.folder)
        self.process = Process(*serve, env=environment, stderr=subprocess.DEVNULL)
        url = self.process.stdout.readline().strip()
        assert url, "the grid did not start"
        self.http = httpx.Client(base_url=f"{url}/model-centric", timeout=30)

    def kill(self):
        self.end()
        self.start()

    def end(self):
        self.process.kill()
        self.process.communicate()
        self.http.close()

    def post(self, call, **message):
        reply = self.http.post(f"/{call}", json=message)
        assert reply.status_code == 200, reply.text
        return reply.json()

    def join(self):
        worker_id = self.post("authenticate", model_name="m", model_version="1.0")["worker_id"]
        answer = self.post("cycle-request", worker_id=worker_id, model="m", version="1.0", summary=True)
        return {"worker_id": worker_id, "request_key": answer["request_key"]}

    def until_checkpoint(self, number):
        for _ in range(1200):
            (model,) = self.http.get("/status").json()["models"]
            if model["checkpoints"][0]["number"] >= number:
                return
            time.sleep(0.02)
        raise AssertionError(f"there is no checkpoint {number}")

    def checkpoints(self):
        """The bytes of all, by their numbers."""
        (model,) = self.http.get("/status").json()["models"]
        numbers = [str(one["number"]) for one in model["checkpoints"]]
        query = {"name": "m", "version": "1.0"}
        return {
            number: self.http.get("/retrieve-model", params={**query, "checkpoint": number}).content
            for number in numbers
        }


def net():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def hosted(model, **server):
    plan = training_plan(model, nn.functional.mse_loss, example=(torch.randn(4, 3), torch.randn(4, 2)))
    tensors = [from_torch(tensor) for tensor in model_parameters(model)]
    private = [item.spec.index for item in plan.inputs if item.role is Role.PRIVATE]
    request = hosting(
        model=State.of(tensors).serialize(), plans={"training_plan": plan.serialize().hex()}, server=server
    )
    return request, tensors, private


def report_of(tensors, private, cycle, worker):
    """A diff and what is told with it, the same in each run."""
    rng = np.random.default_rng([cycle, worker])
    diff = [
        WireTensor((0 if place in private else 1) * rng.normal(size=t.shape).astype(np.float32), t.dtype)
        for place, t in enumerate(tensors)
    ]
    told = Summary(samples=float(rng.integers(1, 100)), steps=3) if worker else Summary()
    return base64_of(with_summary(State.of(diff).serialize(), told))


def course(folder, kills, model, *, late=False, **server):
    """The checkpoints after four cycles.

    With `late`, one worker joins in the first cycle and reports in the third.
    """
    request, tensors, private = hosted(model, **server)
    grid = Killable(folder)
    try:
        grid.post("host-training", **request)
        slow = grid.join() if late else None
        for cycle in range(1, CYCLES + 1):
            for worker in range(WORKERS):
                keys = slow if slow and (cycle, worker) == (3, 0) else grid.join()
                diff = report_of(tensors, private, cycle, worker)
                assert grid.post("report", **keys, diff=diff) == {"status": "success"}
                if (cycle, worker) in kills:
                    grid.kill()
            grid.until_checkpoint(cycle + 1)
        return grid.checkpoints()
    finally:
        grid.end()


COURSES = {
    "fedadam": (net, {"strategy": "fedadam", "max_diffs": WORKERS}),
    "fedbuff": (net, {"strategy": {"name": "fedbuff", "k": WORKERS}, "late": True}),
    "scaffold": (
        lambda: ControlVariates(net()),
        {"strategy": {"name": "scaffold", "population": 7}, "max_diffs": WORKERS},
    ),
    "centred_clipping": (net, {"strategy": {"name": "centred_clipping", "tau": 1.0}, "max_diffs": WORKERS}),
}


@pytest.mark.parametrize("name", list(COURSES) if LONG else ["fedadam"])
def test_a_grid_that_is_killed_ends_in_the_same_bits(tmp_path, name):
    make, server = COURSES[name]
    killed = course(tmp_path / "killed", KILLS, make(), **server)
    undisturbed = course(tmp_path / "undisturbed", NEVER, make(), **server)
    assert len(undisturbed) == CYCLES + 1
    assert killed == undisturbed
    assert len(set(undisturbed.values())) == CYCLES + 1


REPORTS = 30
"""Of a cycle that replicas share: enough for each to publish its part of the sum."""


def shared_course(folders, kills, cycles, draw):
    """The checkpoints of one grid, or of replicas that share a folder; they leave no sum behind.

    Args:
        folders: of each grid.
        kills: after so many of each cycle's reports one of them is killed.
        cycles: how many.
        draw: a random generator, which says who gets a report and who is killed.
    """
    request, tensors, private = hosted(net(), max_diffs=REPORTS)
    grids = [Killable(folder) for folder in folders]
    try:
        grids[0].post("host-training", **request)
        for cycle in range(1, cycles + 1):
            for worker in range(REPORTS):
                grid = grids[draw.integers(len(grids))]
                diff = report_of(tensors, private, cycle, worker)
                assert grid.post("report", **grid.join(), diff=diff) == {"status": "success"}
                if worker + 1 in kills:
                    grids[draw.integers(len(grids))].kill()
            grids[0].until_checkpoint(cycle + 1)
        until_no_sum_is_left(folders[0])
        return grids[0].checkpoints()
    finally:
        for grid in grids:
            grid.end()


def until_no_sum_is_left(folder):
    for _ in range(1200):
        if not [path for path in (folder / "blobs").glob("sums/*/*") if path.is_file()]:
            return
        time.sleep(0.02)
    raise AssertionError("there are parts of sums of cycles that have ended")


@only_in_the_long_form
@pytest.mark.parametrize("seed", range(10))
def test_replicas_that_are_killed_end_in_the_bits_of_one(tmp_path, seed):
    draw = np.random.default_rng(seed)
    killed = shared_course([tmp_path / "shared"] * 2, (9, 22, REPORTS), 2, draw)
    alone = shared_course([tmp_path / "alone"], (), 2, draw)
    assert len(alone) == 3
    assert killed == alone
