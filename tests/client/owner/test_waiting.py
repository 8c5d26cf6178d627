"""A model owner waits for a checkpoint, against the real grid over a socket."""

import asyncio
import json
import threading
import time
from typing import Any

import pytest
import torch
from starlette.responses import Response

from fedplan.client import ModelCentricFLClient, Syft, SyftModel, participate
from fedplan.client.owner import waiting
from fedplan.errors import ConfigError, CycleFailedError, GridResponseError, WaitTimeoutError
from fedplan.plan import Plan, model_parameters
from fedplan.wire.messages import ModelStatus
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import BATCH, make_data, make_module, make_plan
from tests.grid import models

IMAGES, LABELS = make_data()


def host(owner: ModelCentricFLClient, name: str, version: str = "1", **server_config: Any) -> None:
    owner.host_federated_training(
        make_module(),
        {"training_plan": make_plan()},
        {"name": name, "version": version, "batch_size": BATCH, "lr": 0.1},
        {"max_diffs": 1, **server_config},
        variants=(),
    )


def train(url: str, name: str, cycles: int = 1) -> None:
    done = participate(url, name, "1", IMAGES, LABELS, cycles=cycles, wait=True, verbose=True, progress=False)
    assert done.cycles == cycles


def trained_here() -> list[torch.Tensor]:
    """What one epoch makes of the model."""
    params, lr = model_parameters(make_module()), torch.tensor([0.1])
    for x, y in zip(IMAGES.split(BATCH), LABELS.split(BATCH), strict=True):
        params = make_plan()(x, y, lr, *params)[2:]
    return params


def test_after_a_wait_the_newest_checkpoint_is_the_trained_model(
    url: str, owner: ModelCentricFLClient
) -> None:
    host(owner, "trained", num_cycles=1)
    train(url, "trained")
    model = owner.wait("trained", "1", checkpoint=2, timeout=60)
    assert isinstance(model, ModelStatus)
    assert model.checkpoints[0].number == 2
    for ours, grids in zip(trained_here(), owner.retrieve_model("trained", "1").params, strict=True):
        torch.testing.assert_close(ours, grids, rtol=0, atol=1e-6)


def test_a_checkpoint_that_is_there_is_not_waited_for(url: str, owner: ModelCentricFLClient) -> None:
    host(owner, "there")
    assert owner.wait("there", "1", checkpoint=1, timeout=0).checkpoints[0].number == 1
    train(url, "there", cycles=2)
    owner.wait("there", "1", checkpoint=3, timeout=60)
    assert owner.wait("there", "1", checkpoint=2, timeout=0).checkpoints[0].number == 3


def test_without_a_goal_it_is_the_checkpoint_after_the_newest(url: str, owner: ModelCentricFLClient) -> None:
    host(owner, "next", num_cycles=2)
    for number in (2, 3):
        worker = threading.Timer(0.3, train, (url, "next"))
        worker.start()
        assert owner.wait("next", "1", timeout=60).checkpoints[0].number == number
        worker.join()
    model = owner.wait("next", "1")  # nothing more will come
    assert (model.phase, model.checkpoints[0].number) == ("finished", 3)


async def test_the_coroutine_waits_while_others_run(url: str) -> None:
    async with ModelCentricFLClient(url) as owner:
        await asyncio.to_thread(host, owner, "finished", num_cycles=3)
        owner.close()
        waits = asyncio.create_task(owner.wait_async("finished", "1", finished=True, timeout=60))
        await asyncio.sleep(0.2)
        assert not waits.done()
        await asyncio.to_thread(train, url, "finished", 3)
        model = await waits
        assert (model.phase, model.checkpoints[0].number) == ("finished", 4)


def test_when_the_time_is_over_the_error_says_what_the_cycle_waits_for(
    url: str, owner: ModelCentricFLClient
) -> None:
    host(owner, "late", max_diffs=3, min_diffs=2, cycle_length=3600, num_cycles=4)
    train(url, "late")
    began = time.monotonic()
    with pytest.raises(WaitTimeoutError) as error:
        owner.wait("late", "1", checkpoint=2, timeout=0.4)
    assert time.monotonic() - began < 30
    for words in (
        "'late' 1 has no checkpoint 2 after 0.4 s",
        "cycle 1 of 4 has 1 report and needs 2",
        "0 workers are training",
        "it closes with report 3 or at 20",
        "Its newest checkpoint is 1",
    ):
        assert words in str(error.value)
    with pytest.raises(WaitTimeoutError, match="no end of its training after 0 s"):
        owner.wait("late", "1", finished=True, timeout=0)


@pytest.mark.parametrize(
    ("name", "version", "message"),
    [("nobody", "1", "hosts no model 'nobody'"), ("known", "2", "no model 'known' version '2'.*are: '1'")],
)
def test_a_model_that_is_not_hosted_is_said_at_once(
    owner: ModelCentricFLClient, name: str, version: str, message: str
) -> None:
    if name == "known":
        host(owner, "known")
    with pytest.raises(GridResponseError, match=message) as error:
        owner.wait(name, version)
    assert error.value.status == 404


@pytest.mark.parametrize(
    ("server_config", "goal", "message"),
    [
        ({"num_cycles": 2}, {"checkpoint": 4}, "its last checkpoint is 3 at most; checkpoint 4 will never"),
        ({}, {"finished": True}, "trained without end"),
        ({}, {"checkpoint": 2, "finished": True}, "wait for one thing"),
        ({}, {"checkpoint": 0}, "checkpoint must be a positive integer, not 0"),
        ({}, {"checkpoint": True}, "checkpoint must be a positive integer, not True"),
        ({}, {"timeout": -1}, "timeout must be a number of seconds greater than 0, not -1"),
        ({}, {"timeout": float("nan")}, "timeout must be"),
    ],
)
def test_what_can_never_come_is_said_at_once(
    owner: ModelCentricFLClient, server_config: dict[str, Any], goal: dict[str, Any], message: str
) -> None:
    name = f"never {goal} {server_config}"
    host(owner, name, **server_config)
    with pytest.raises(ConfigError, match=message):
        owner.wait(name, "1", **goal)


class TestAFailedCycle:
    @pytest.fixture
    def failing(self, owner: ModelCentricFLClient) -> ModelCentricFLClient:
        """A model whose averaging makes infinite numbers when two diffs agree."""
        owner.host_federated_training(
            [torch.from_numpy(array) for array in models.MODEL],
            {"training_plan": Plan.parse(models.training_plan())},
            {"name": self.name, "version": "1", "lr": 0.1},
            {"num_cycles": 3},
            Plan.parse(models.plan_that_fails_when_diffs_agree()),
            variants=(),
        )
        return owner

    @pytest.fixture(autouse=True)
    def _name(self, request: pytest.FixtureRequest) -> None:
        self.name = request.node.name

    async def report(self, url: str, *values: float) -> None:
        async with Syft(url, verbose=True) as syft:
            for value in values:
                job = syft.new_job(self.name, "1")
                await job.start()
                changed = [param + value for param in job.model.params]
                await job.report(job.model.diff(SyftModel(changed)).serialize())

    async def test_is_said_to_who_waits(self, url: str, failing: ModelCentricFLClient) -> None:
        waits = asyncio.create_task(asyncio.to_thread(failing.wait, self.name, "1", checkpoint=2, timeout=60))
        await asyncio.sleep(0.2)
        await self.report(url, 1.0, 1.0)
        with pytest.raises(CycleFailedError, match=r"cycle 1 of .* failed and made no checkpoint: .*NaN"):
            await waits

    async def test_is_said_to_who_comes_later_until_workers_are_in_the_next(
        self, url: str, failing: ModelCentricFLClient
    ) -> None:
        await self.report(url, 1.0, 1.0)
        for _ in range(2):
            with pytest.raises(CycleFailedError, match="cycle 1 of"):
                await asyncio.to_thread(failing.wait, self.name, "1", finished=True, timeout=60)
        await self.report(url, 1.0)
        with pytest.raises(WaitTimeoutError, match="cycle 2 of 3 has 1 report and needs 2"):
            await asyncio.to_thread(failing.wait, self.name, "1", checkpoint=2, timeout=0.3)
        await self.report(url, 2.0)
        model = await asyncio.to_thread(failing.wait, self.name, "1", checkpoint=2, timeout=60)
        assert (model.cycle.number, model.failed_cycle) == (3, 1)

    async def test_that_leaves_no_cycle_for_the_checkpoint_is_said(
        self, url: str, failing: ModelCentricFLClient
    ) -> None:
        for cycle, last in enumerate((1.0, 2.0, 2.0), 1):
            await self.report(url, 1.0, last)
            while failing.status(self.name).models[0].cycle.number == cycle < 3:
                await asyncio.sleep(0.02)
        model = await asyncio.to_thread(failing.wait, self.name, "1", finished=True, timeout=60)
        assert (model.phase, model.checkpoints[0].number) == ("finished", 3)
        with pytest.raises(
            CycleFailedError, match=r"cycle 1 .* The training is finished\. Its newest.* is 3"
        ):
            await asyncio.to_thread(failing.wait, self.name, "1", checkpoint=4)


def test_a_checkpoint_that_a_training_ends_without_is_not_waited_for(
    url: str, owner: ModelCentricFLClient
) -> None:
    goal = {"metric": "training_loss", "mode": "min", "value": 100.0}
    host(owner, "stopped", num_cycles=5, stop=goal)
    waits = threading.Thread(target=train, args=(url, "stopped"))
    waits.start()
    with pytest.raises(CycleFailedError) as error:
        owner.wait("stopped", "1", checkpoint=4, timeout=60)
    waits.join()
    for words in (
        "the training of 'stopped' 1 is finished (min training_loss ends it early)",
        "there is no checkpoint 4: its newest checkpoint is 2",
    ):
        assert words in str(error.value)
    assert owner.wait("stopped", "1", finished=True, timeout=60).checkpoints[0].number == 2


def status(number: int) -> bytes:
    cycle = {"number": 1, "phase": "open", "accepted": 0, "reported": 0, "needed": 1}
    checkpoint = {"number": number, "created_at": "2026-01-01T00:00:00Z"}
    model = {
        "name": "m",
        "version": "1",
        "phase": "training",
        "cycle": {**cycle, "opened_at": "2026-01-01T00:00:00Z"},
        "checkpoints": [checkpoint],
    }
    return json.dumps({"models": [model]}).encode()


def test_a_grid_that_goes_away_is_waited_for(grid: SmallGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AWAY_SECONDS", (0.01, 0.01))
    away = [Response(status_code=502, headers={"retry-after": "0"})] * 8  # each call is sent four times
    grid.answer("status", status(1), *away, status(1), *away, status(2))
    with ModelCentricFLClient(grid.url) as client:
        assert client.wait("m", "1", checkpoint=2, timeout=60).checkpoints[0].number == 2


def test_a_grid_that_stays_away_is_given_up(grid: SmallGrid, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "AWAY_SECONDS", (0.01, 0.01))
    away = [Response(status_code=502, headers={"retry-after": "0"})] * 12
    grid.answer("status", status(1), *away, status(2))
    with ModelCentricFLClient(grid.url) as client, pytest.raises(GridResponseError, match="502"):
        client.wait("m", "1", checkpoint=2, timeout=60)


@pytest.mark.parametrize(
    ("answered", "message"), [(0, "the grid did not answer within 0.5 s"), (1, "no checkpoint 2")]
)
def test_a_grid_that_does_not_answer_is_not_waited_for_longer_than_said(
    grid: SmallGrid, answered: int, message: str
) -> None:
    async def sleeping(_: dict[str, Any]) -> bytes:
        await asyncio.sleep(2)
        return status(1)

    grid.answer("status", *[status(1)] * answered, sleeping)
    began = time.monotonic()
    with ModelCentricFLClient(grid.url) as client, pytest.raises(WaitTimeoutError, match=message):
        client.wait("m", "1", checkpoint=2, timeout=0.5)
    assert time.monotonic() - began < 1.9
    grid.answer("status", status(1))
    with ModelCentricFLClient(grid.url) as client:
        client.status("m")  # it sleeps no more, and the next test finds it awake


def test_a_timeout_of_zero_looks_once(grid: SmallGrid) -> None:
    grid.answer("status", status(1), status(2))
    with ModelCentricFLClient(grid.url) as client, pytest.raises(WaitTimeoutError, match="no checkpoint 2"):
        client.wait("m", "1", checkpoint=2, timeout=0)
    assert len(grid.asked("status")) == 1
