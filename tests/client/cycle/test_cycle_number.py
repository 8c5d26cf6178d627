"""The number of the cycle: the grid tells it to who asks, Plans read it, random numbers depend on it."""

from typing import Any

import httpx
import pytest
import torch
from torch import Tensor, nn

from fedplan.client import (
    ModelCentricFLClient,
    PlanTrainer,
    PlanTrainerCheckpoint,
    Syft,
    SyftModel,
    participate_async,
)
from fedplan.errors import ConfigError
from fedplan.plan import Plan, StepContext, training_plan
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import make_data, make_model, make_module, make_plan

IMAGES, LABELS = make_data(8)
CONFIG = {"version": "1.0", "batch_size": 4, "lr": 0.1}


def cooling(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
    """A loss that weighs less from cycle to cycle."""
    return nn.functional.cross_entropy(output, target) * 0.5 ** (step.cycle - 1)


def number(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
    return step.cycle.float()


@pytest.fixture(scope="module")
def plan() -> Plan:
    return training_plan(make_module(), cooling, example=(IMAGES, LABELS), metrics={"cycle": number})


async def host(url: str, name: str, plan: Plan, diffs: int = 1) -> None:
    async with ModelCentricFLClient(url) as owner:
        await owner.host_federated_training_async(
            make_module(),
            {"training_plan": plan},
            {**CONFIG, "name": name},
            {"max_diffs": diffs},
            variants=[],
        )


async def train(url: str, name: str, **options: Any) -> Any:
    return await participate_async(url, name, "1.0", IMAGES, LABELS, verbose=True, wait=30.0, **options)


async def latest(url: str, name: str, checkpoint: int) -> list[Tensor]:
    async with ModelCentricFLClient(url) as owner:
        await owner.wait_async(name, "1.0", checkpoint=checkpoint, timeout=60)
        return (await owner.retrieve_model_async(name, "1.0")).params


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_a_step_reads_the_number_that_the_grid_has(url: str, plan: Plan, scheme: str) -> None:
    name = f"read over {scheme}"
    await host(url, name, plan)
    first = await train(url.replace("http", scheme), name, cycles=2)
    second = await train(url.replace("http", scheme), name)
    assert first.metrics["cycle"] + second.metrics["cycle"] == [1, 2, 3]
    async with Syft(url, verbose=True) as syft:
        job = syft.new_job(name, "1.0")
        assert job.cycle is None
        await latest(url, name, 4)
        await job.start()
        async with ModelCentricFLClient(url) as owner:
            assert job.cycle == (await owner.status_async(name)).models[0].cycle.number == 4
    model = [param.clone() for param in make_model().params]
    for cycle in (1, 2, 3):
        for x, y in zip(IMAGES.split(4), LABELS.split(4), strict=True):
            model = plan(x, y, torch.tensor([0.1]), *model, torch.tensor([cycle]))[2:]
    for ours, theirs in zip(await latest(url, name, 4), model, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


async def test_only_who_asks_is_told(url: str, plan: Plan) -> None:
    """KotlinSyft fails on a key that it does not know."""
    await host(url, "told", plan, diffs=2)
    async with httpx.AsyncClient(base_url=f"{url}/model-centric") as client:
        names = {"model_name": "told", "model_version": "1.0"}
        answers = []
        for more in ({}, {"tell_cycle": True}):
            worker = (await client.post("/authenticate", json=names)).json()["worker_id"]
            asking = {"worker_id": worker, "model": "told", "version": "1.0", **more}
            answers.append((await client.post("/cycle-request", json=asking)).json())
    usual, told = answers
    assert told.keys() - usual.keys() == {"cycle"}
    assert told["cycle"] == 1


async def test_random_numbers_of_one_seed_are_others_in_each_cycle_also_after_a_restart(url: str) -> None:
    for name in ("one run", "two runs"):
        await host(url, name, make_plan(dropout=0.5))
    await train(url, "one run", cycles=2, seed=7)
    await train(url, "two runs", seed=7)
    await train(url, "two runs", seed=7)
    for one, other in zip(await latest(url, "one run", 3), await latest(url, "two runs", 3), strict=True):
        assert torch.equal(one, other)


def trainer(plan: Plan, **options: Any) -> PlanTrainer:
    return PlanTrainer(
        plan=plan, model=make_model(), data=IMAGES, target=LABELS, batch_size=4,
        client_config={"lr": 0.1}, **options,
    )  # fmt: skip


async def test_it_is_in_the_checkpoint(plan: Plan) -> None:
    whole = trainer(plan, cycle=3)
    await whole.start()
    stopped = trainer(plan, cycle=3)
    stopped.on("batch_end", stopped.stop)
    await stopped.start()
    kept = stopped.create_checkpoint().to_dict()
    assert kept["randomState"]["cycle"] == 3
    resumed = trainer(plan, checkpoint=PlanTrainerCheckpoint.from_json(None, kept))
    await resumed.resume()
    assert resumed.current_model.serialize() == whole.current_model.serialize()


class TestAGridThatDoesNotTellIt:
    async def test_cannot_have_a_plan_trained_that_reads_it(self, grid: SmallGrid, plan: Plan) -> None:
        grid.plans = {"training_plan": plan}
        with pytest.raises(ConfigError, match="reads the number of the cycle, and nobody tells it"):
            await train(grid.url, "m")
        with pytest.raises(ConfigError, match="reads the number of the cycle"):
            trainer(plan)

    async def test_gets_random_numbers_that_differ_from_cycle_to_cycle(self, grid: SmallGrid) -> None:
        grid.plans = {"training_plan": make_plan(dropout=0.5)}
        grid.model = SyftModel(make_model().params)
        await train(grid.url, "m", cycles=2, seed=7)
        first, second = grid.diffs  # of the same model: this grid averages nothing
        assert any(not torch.equal(a, b) for a, b in zip(first.params, second.params, strict=True))
