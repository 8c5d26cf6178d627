"""A grid that is killed at a stage of a secure round goes on with it: what it acknowledged is on disk."""

import asyncio
import os
import random
import signal
import socket
import subprocess
import urllib.request

import pytest

from fedplan.client import ModelCentricFLClient
from tests.client.secure.rounds import VERSION, Workers, host, is_changed_by, secure
from tests.client.training_cases import make_model
from tests.long import only_in_the_long_form
from tests.processes import Process


class Killable:
    """A grid in a process of its own, on a port that stays the same."""

    def __init__(self, folder):
        self._folder = folder
        with socket.create_server(("127.0.0.1", 0)) as found:
            self._port = found.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self):
        own = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLAN_")}
        fast = {
            "FEDPLAN_POLL_SECONDS": "0.05",
            "FEDPLAN_LEASE_SECONDS": "0.3",
            "FEDPLAN_RETRY_SECONDS": "0.2",
        }
        serve = ("-m", "fedplan", "serve", "--data", self._folder, "--port", self._port)
        self._process = Process(*serve, env=own | fast, stderr=subprocess.DEVNULL)
        assert self._process.stdout.readline().strip(), "the grid did not start"
        with urllib.request.urlopen(f"{self.url}/healthz", timeout=30) as answer:
            assert answer.status == 200

    def kill(self):
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()


STAGES = ("keys", "shares", "reports", "unmasking")


@pytest.mark.parametrize(
    ("rounds", "stages"),
    [(1, ("reports",)), pytest.param(20, STAGES, marks=only_in_the_long_form, id="each stage of 20 rounds")],
)
@pytest.mark.timeout(3600)
async def test_goes_on_when_it_is_killed_at_a_stage(rounds, stages, tmp_path, monkeypatch):
    grid, chance = Killable(tmp_path), random.Random(rounds)
    await asyncio.to_thread(grid.start)
    try:
        async with ModelCentricFLClient(grid.url) as owner:
            await host(owner, "killed", secure(4, num_cycles=rounds))
            before = make_model()
            for number in range(1, rounds + 1):
                workers = Workers(grid.url, "killed", monkeypatch)
                running = [asyncio.create_task(workers.one(n)) for n in range(4)]
                for stage in stages:
                    # a worker that is still joining is told that the grid is away, and does not wait for it
                    await workers.until(stage, 4 if stage == "keys" else chance.randint(1, 4))
                    await asyncio.sleep(chance.uniform(0, 0.05))
                    await asyncio.to_thread(grid.kill)
                    await asyncio.to_thread(grid.start)
                assert await asyncio.gather(*running) == ["reported"] * 4
                await owner.wait_async("killed", VERSION, checkpoint=number + 1, timeout=120)
                after = await owner.retrieve_model_async("killed", VERSION)
                assert is_changed_by(before, after, workers.average({0, 1, 2, 3}))
                assert len(workers.payloads) == len(workers.diffs) == 4  # each was masked, and sent, once
                before = after
            assert len(await owner.history_async("killed", VERSION)) == rounds  # no round failed
    finally:
        await asyncio.to_thread(grid.kill)
