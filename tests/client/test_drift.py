"""FedProx, SCAFFOLD and FedDyn through a grid, against the equations of their papers."""

import asyncio
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.client import ModelCentricFLClient, PlanTrainer, SyftModel, participate_async
from fedplan.errors import ConfigError, GridResponseError, TraceError
from fedplan.grid import Settings, create_app
from fedplan.plan import (
    ControlVariates,
    DynamicRegularizer,
    Role,
    model_parameters,
    module_state,
    training_plan,
)
from tests.client.small_grid import serve

BATCH, LR, CYCLES, WORKERS, POPULATION = 8, 0.1, 3, 2, 5


def net() -> nn.Linear:
    torch.manual_seed(2)
    return nn.Linear(6, 3, bias=False)


def data_of(worker: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(worker)
    x = torch.randn(24 + 16 * worker, 6, generator=generator) + worker
    return x, torch.randint(0, 3, (len(x),), generator=generator)


def trained(start: Tensor, worker: int, term: Callable[[Tensor], Tensor]) -> tuple[Tensor, int]:
    """The weight after one epoch in which a term is added to each gradient, and the number of steps."""
    y, steps = start.clone(), 0
    for x, target in zip(*(part.split(BATCH) for part in data_of(worker)), strict=True):
        y.requires_grad_()
        (gradient,) = torch.autograd.grad(F.cross_entropy(x @ y.T, target), [y])
        y = (y - LR * (gradient + term(y))).detach()
        steps += 1
    return y, steps


async def through_a_grid(
    folder: pathlib.Path, model: nn.Module, server: dict[str, Any], client: dict[str, Any], **options: Any
) -> dict[str, Tensor]:
    """The model after three cycles of two workers."""
    plan = training_plan(model, F.cross_entropy, example=data_of(0), **options)
    app = create_app(Settings(data_dir=folder / "grid", poll_seconds=0.05, retry_seconds=0.5))
    config = {"name": "m", "version": "1.0", "batch_size": BATCH, "lr": LR} | client
    server = {"min_diffs": WORKERS, "max_diffs": WORKERS, "num_cycles": CYCLES} | server
    with serve(app) as url:
        async with ModelCentricFLClient(url) as owner:
            await owner.host_federated_training_async(
                model, {"training_plan": plan}, config, server, variants=[]
            )
            more: dict[str, Any] = {"verbose": True, "wait": 30.0, "cycles": CYCLES}
            await asyncio.gather(
                *(
                    participate_async(url, "m", "1.0", *data_of(n), state=folder / f"worker {n}", **more)
                    for n in range(WORKERS)
                )
            )
            await owner.wait_async("m", "1.0", finished=True, timeout=60)
            found = await owner.retrieve_model_async("m", "1.0")
    return dict(zip(module_state(model), found.params, strict=True))


async def test_fedprox_stays_near_the_model_as_received(tmp_path: pathlib.Path) -> None:
    ours = await through_a_grid(tmp_path, net(), {}, {"mu": 0.7}, proximal="mu")
    x = net().weight.detach()
    weights = [float(len(data_of(n)[0])) for n in range(WORKERS)]
    for _ in range(CYCLES):
        ends = [trained(x, n, lambda y, x=x: 0.7 * (y - x))[0] * weights[n] for n in range(WORKERS)]
        x = sum(ends) / sum(weights)  # type: ignore[assignment]
    torch.testing.assert_close(ours["weight"], x, rtol=0, atol=1e-5)


async def test_scaffold_corrects_by_control_variates(tmp_path: pathlib.Path) -> None:
    strategy = {"strategy": {"name": "scaffold", "population": POPULATION}}
    ours = await through_a_grid(tmp_path, ControlVariates(net()), strategy, {})
    x, c = net().weight.detach(), torch.zeros(3, 6)
    own = [torch.zeros(3, 6) for _ in range(WORKERS)]
    for _ in range(CYCLES):
        ends, changes = [], []
        for worker in range(WORKERS):
            y, steps = trained(x, worker, lambda _, w=worker, c=c: c - own[w])
            new = own[worker] - c + (x - y) / (steps * LR)
            changes.append(new - own[worker])
            own[worker] = new
            ends.append(y)
        x = torch.stack(ends).mean(0)
        c = c + WORKERS / POPULATION * torch.stack(changes).mean(0)
    torch.testing.assert_close(ours["module.weight"], x, rtol=0, atol=1e-5)
    torch.testing.assert_close(ours["of_all.0"], c, rtol=0, atol=1e-5)
    assert not ours["own.0"].any()


async def test_feddyn_corrects_by_remembered_gradients(tmp_path: pathlib.Path) -> None:
    strategy = {"strategy": {"name": "feddyn", "population": POPULATION, "alpha": 0.3}}
    ours = await through_a_grid(tmp_path, DynamicRegularizer(net()), strategy, {"alpha": 0.3})
    x, h = net().weight.detach(), torch.zeros(3, 6)
    own = [torch.zeros(3, 6) for _ in range(WORKERS)]
    for _ in range(CYCLES):
        ends = []
        for worker in range(WORKERS):
            y, _ = trained(x, worker, lambda y, w=worker, x=x: 0.3 * (y - x) - own[w])
            own[worker] = own[worker] - 0.3 * (y - x)
            ends.append(y)
        h = h - 0.3 / POPULATION * sum(end - x for end in ends)  # type: ignore[assignment]
        x = torch.stack(ends).mean(0) - h / 0.3
    torch.testing.assert_close(ours["module.weight"], x, rtol=0, atol=1e-5)


async def test_fedprox_with_a_number_is_that_with_a_key() -> None:
    x, y = data_of(0)
    ends = []
    for proximal, config in ((0.5, {"lr": LR}), ("mu", {"lr": LR, "mu": 0.5})):
        plan = training_plan(net(), F.cross_entropy, example=(x, y), proximal=proximal)  # type: ignore[arg-type]
        model = SyftModel(model_parameters(net()))
        training = PlanTrainer(plan=plan, model=model, data=x, target=y, batch_size=8, client_config=config)
        await training.start()
        ends.append(training.current_model.params[0])
    torch.testing.assert_close(*ends, rtol=0, atol=1e-6)


def test_the_roles_say_who_changes_what() -> None:
    plan = training_plan(ControlVariates(net()), F.cross_entropy, example=data_of(0))
    roles = {item.name: item.role for item in plan.inputs if item.role is not None}
    assert roles == {"module.weight": Role.TRAINED, "own.0": Role.PRIVATE, "of_all.0": Role.CONTROL}


@pytest.mark.parametrize("optimizer", [torch.optim.Adam, lambda p: torch.optim.SGD(p, momentum=0.9)])
def test_scaffold_is_for_plain_sgd(optimizer: Any) -> None:
    with pytest.raises(TraceError, match="only with plain SGD"):
        training_plan(ControlVariates(net()), F.cross_entropy, example=data_of(0), optimizer=optimizer)


def test_a_coefficient_must_be_a_number_or_a_key() -> None:
    with pytest.raises(TraceError, match="proximal is a bool"):
        training_plan(net(), F.cross_entropy, example=data_of(0), proximal=True)


async def test_scaffold_is_not_hosted_without_control_variates(tmp_path: pathlib.Path) -> None:
    strategy = {"strategy": {"name": "scaffold", "population": 3}}
    with pytest.raises((ConfigError, GridResponseError), match=r"host fedplan\.ControlVariates"):
        await through_a_grid(tmp_path, net(), strategy, {})
