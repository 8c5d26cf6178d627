"""SCAFFOLD (Karimireddy et al. 2020): the variates that a worker keeps are private buffers of the model."""

import asyncio
import pathlib
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.client import ModelCentricFLClient, participate_async
from fedplan.grid import Settings, create_app
from fedplan.plan import StepContext, model_parameters, module_state, training_plan
from tests.client.cycle.private.personal import data_of
from tests.client.small_grid import serve

BATCH, LR, CYCLES = 8, 0.1, 3
SHARED, OWN = "all_", "own_"


class Controlled(nn.Module):
    """A layer, and beside it the variates of all workers and of this one."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.weight = nn.Parameter(torch.randn(3, 6) / 3)
        for prefix in (SHARED, OWN):
            self.register_buffer(f"{prefix}weight", torch.zeros(3, 6))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight.T


def scaffold(output: Tensor, target: Tensor, step: StepContext) -> Tensor:
    """Corrects the gradient by c − cᵢ, and makes cᵢ the mean of the cycle's own gradients (option II)."""
    cost, now, received = F.cross_entropy(output, target), step.parameters, step.received
    (gradient,) = torch.autograd.grad(cost, [now["weight"]], retain_graph=True)
    with torch.no_grad():
        own = now[f"{OWN}weight"] * (step.number > 0)  # of the steps before
        own.add_((gradient - own) / (step.number + 1))
        now[f"{OWN}weight"].copy_(own)
        now[f"{SHARED}weight"].copy_(received[f"{SHARED}weight"] + own - received[f"{OWN}weight"])
    return cost + ((received[f"{SHARED}weight"] - received[f"{OWN}weight"]) * now["weight"]).sum()


def by_hand(workers: int) -> tuple[Tensor, Tensor]:
    """(weights, variate of all) after the cycles, from the paper's equations."""
    shared, control = Controlled().weight.detach(), torch.zeros(3, 6)
    own = [torch.zeros(3, 6) for _ in range(workers)]
    for _ in range(CYCLES):
        ends, changes = [], []
        for worker in range(workers):
            y, steps = shared.clone(), 0
            for x, target in zip(*(part.split(BATCH) for part in data_of(worker)), strict=True):
                y.requires_grad_()
                (gradient,) = torch.autograd.grad(F.cross_entropy(x @ y.T, target), [y])
                y = y.detach() - LR * (gradient - own[worker] + control)
                steps += 1
            new = own[worker] - control + (shared - y) / (steps * LR)
            changes.append(new - own[worker])
            own[worker] = new
            ends.append(y)
        shared, control = torch.stack(ends).mean(0), control + torch.stack(changes).mean(0)
    return shared, control


async def test_two_workers_train_as_the_papers_equations_say(tmp_path: pathlib.Path) -> None:
    plan = training_plan(Controlled(), scaffold, example=data_of(0), private=[f"{OWN}*"])
    names = list(module_state(Controlled()))
    app = create_app(Settings(data_dir=tmp_path / "grid", poll_seconds=0.05, retry_seconds=0.5))
    with serve(app) as url:
        async with ModelCentricFLClient(url) as owner:
            config = {"name": "scaffold", "version": "1.0", "batch_size": BATCH, "lr": LR}
            await owner.host_federated_training_async(
                Controlled(), {"training_plan": plan}, config, {"min_diffs": 2, "max_diffs": 2}, variants=[]
            )
            options: dict[str, Any] = {"verbose": True, "wait": 30.0, "cycles": CYCLES}
            await asyncio.gather(
                *(
                    participate_async(
                        url, "scaffold", "1.0", *data_of(n), state=tmp_path / f"worker {n}", **options
                    )
                    for n in range(2)
                )
            )
            await owner.wait_async("scaffold", "1.0", checkpoint=CYCLES + 1, timeout=60)
            trained = dict(
                zip(names, (await owner.retrieve_model_async("scaffold", "1.0")).params, strict=True)
            )
    weight, control = by_hand(2)
    torch.testing.assert_close(trained["weight"], weight, rtol=0, atol=1e-5)
    torch.testing.assert_close(trained[f"{SHARED}weight"], control, rtol=0, atol=1e-5)
    assert not trained[f"{OWN}weight"].any()
    assert len(model_parameters(Controlled())) == 3
