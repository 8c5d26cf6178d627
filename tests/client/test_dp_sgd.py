"""DP-SGD through a grid: what comes of it, what is told, and what each worker counts as spent."""

import asyncio
import functools
import pathlib
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.client import (
    DpSgdSteps,
    ExamplePrivacy,
    ModelCentricFLClient,
    Participation,
    SyftModel,
    participate_async,
)
from fedplan.client.training.poisson import LOTS
from fedplan.errors import GridResponseError, PlanInputError, PrivateStateError
from fedplan.grid import Settings, create_app
from fedplan.plan import DpSgd, Plan, RandomStream, evaluation_plan, model_parameters, training_plan
from tests.client.small_grid import SmallGrid, serve
from tests.plan.dp_sgd_by_hand import by_hand, noise_like

DP = DpSgd(max_grad_norm=0.5, noise_multiplier=0.8, expected_batch_size=8)
RATE, WORKERS, CYCLES = 0.2, 2, 2
CONFIG = {"name": "m", "version": "1.0", "lr": RATE}


def net() -> nn.Linear:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return nn.Linear(6, 3)


def data_of(worker: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(worker)
    x = torch.randn(24 + 16 * worker, 6, generator=generator) + worker
    return x, torch.randint(0, 3, (len(x),), generator=generator)


@functools.cache
def a_plan() -> Plan:
    return training_plan(net(), F.cross_entropy, example=data_of(0), dp=DP)


def trained(model: nn.Linear, worker: int, cycle: int) -> tuple[list[torch.Tensor], int]:
    """What a worker with the seed 5 + its number makes of a model in a cycle, and in how many steps."""
    x, y = data_of(worker)
    stream, steps = RandomStream(5 + worker), round(len(x) / DP.expected_batch_size)
    own = net()
    own.load_state_dict(model.state_dict())
    for step in range(steps):
        lots = stream.uniform((len(x),), cycle=cycle, step=step, number=LOTS, dtype=torch.float64)
        kept = lots < DP.expected_batch_size / len(x)
        drawn = stream.normal((21,), cycle=cycle, step=step, number=0, dtype=torch.float64)
        by_hand(own, x[kept], y[kept], DP, RATE, noise_like(own, drawn, DP))
    return model_parameters(own), steps


async def test_the_grids_average_is_that_of_workers_who_draw_the_same_numbers(tmp_path: pathlib.Path) -> None:
    app = create_app(Settings(data_dir=tmp_path / "grid", poll_seconds=0.05, retry_seconds=0.5))
    with serve(app) as url:
        async with ModelCentricFLClient(url) as owner:
            await owner.host_federated_training_async(
                net(),
                {"training_plan": a_plan()},
                CONFIG,
                {"min_diffs": WORKERS, "max_diffs": WORKERS, "num_cycles": CYCLES},
            )
            more: dict[str, Any] = {"verbose": True, "wait": 30.0, "cycles": CYCLES}
            results = await asyncio.gather(
                *(participate_async(url, "m", "1.0", *data_of(n), seed=5 + n, **more) for n in range(WORKERS))
            )
            await owner.wait_async("m", "1.0", finished=True, timeout=60)
            found = await owner.retrieve_model_async("m", "1.0")
            history = await owner.history_async("m", "1.0")
    model = net()
    for cycle in range(1, CYCLES + 1):
        ends = [trained(model, worker, cycle) for worker in range(WORKERS)]
        weights = [len(data_of(worker)[0]) for worker in range(WORKERS)]
        with torch.no_grad():
            for place, parameter in enumerate(model.parameters()):
                parts = (w * end[0][place] for w, end in zip(weights, ends, strict=True))
                parameter.copy_(sum(parts) / sum(weights))  # type: ignore[arg-type]
    torch.testing.assert_close(list(found.params), model_parameters(model), rtol=0, atol=1e-5)
    for worker, result in enumerate(results):
        rate, steps = 8 / len(data_of(worker)[0]), ends[worker][1]
        assert result.example_privacy == ExamplePrivacy.of([DpSgdSteps(0.8, rate, CYCLES * steps)])
        assert len(result.losses) == CYCLES  # the worker itself sees them
    assert not any(row.metrics for row in history)


async def join(grid: SmallGrid, **options: Any) -> Participation:
    return await participate_async(grid.url, "m", "1.0", *data_of(0), verbose=True, **options)


@pytest.fixture
def private_grid(grid: SmallGrid) -> SmallGrid:
    """A small grid whose Plan does DP-SGD."""
    grid.model, grid.plans = SyftModel(model_parameters(net())), {"training_plan": a_plan()}
    grid.client_config = {**CONFIG}
    return grid


async def test_what_was_spent_is_kept_in_the_state_folder(
    private_grid: SmallGrid, tmp_path: pathlib.Path
) -> None:
    each = ExamplePrivacy.of([DpSgdSteps(0.8, 1 / 3, 3)])
    first = await join(private_grid, state=tmp_path)
    assert first.example_privacy == each
    second = await join(private_grid, state=tmp_path)
    assert second.example_privacy == each + each
    assert (await join(private_grid)).example_privacy == each  # without a folder it begins anew
    (file,) = tmp_path.glob("*.dp-sgd.json")
    assert file.stat().st_mode & 0o77 == 0
    file.write_text("{")
    with pytest.raises(PrivateStateError, match="what was spent of the examples' privacy cannot be read"):
        await join(private_grid, state=tmp_path)


async def test_a_report_that_the_grid_refuses_is_spent_all_the_same(
    private_grid: SmallGrid, tmp_path: pathlib.Path
) -> None:
    private_grid.answer("report", {"error": "the cycle is over"})
    with pytest.raises(GridResponseError):
        await join(private_grid, state=tmp_path)
    assert (await join(private_grid, state=tmp_path)).example_privacy == ExamplePrivacy.of(
        [DpSgdSteps(0.8, 1 / 3, 6)]
    )


async def test_a_worker_that_did_no_dp_sgd_says_nothing_of_it(
    grid: SmallGrid, tmp_path: pathlib.Path
) -> None:
    result = await participate_async(
        grid.url, "m", "1.0", torch.randn(8, 6), torch.zeros(8).long(), verbose=True, state=tmp_path
    )
    assert result.example_privacy is None
    assert not list(tmp_path.glob("*.dp-sgd.json"))


async def test_an_evaluation_plan_beside_it_is_not_hosted(url: str, owner: ModelCentricFLClient) -> None:
    measure = evaluation_plan(net(), F.cross_entropy, example=data_of(0))
    with pytest.raises(PlanInputError, match="does DP-SGD, and the Plan 'evaluation_plan' would tell"):
        await owner.host_federated_training_async(
            net(), {"training_plan": a_plan(), "evaluation_plan": measure}, CONFIG, {"max_diffs": 1}
        )
