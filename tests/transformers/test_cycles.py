"""Hugging Face models train through a grid as in a loop by hand in PyTorch, dropout included."""

import asyncio
import copy
import pathlib
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from fedplan.client import ModelCentricFLClient, participate_async
from fedplan.grid import Settings, create_app
from fedplan.plan import Plan, RandomStream, model_parameters, training_plan
from fedplan.plan.tracing.module import module_state
from tests.client.small_grid import serve
from tests.plan.same_numbers import SameNumbers

pytest.importorskip("transformers", reason="transformers is not here; scripts/test --transformers has it")
from .models import CASES, Batch, Case

ROWS, SAMPLES, CYCLES, RATE = 4, 10, 3, 0.05
WORKERS = 2


def data_of(case: Case, worker: int) -> Batch:
    """The last of a worker's batches is smaller than the others."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(100 + worker)
        return case.data(SAMPLES)


def batches(data: Batch) -> Iterator[Batch]:
    for start in range(0, SAMPLES, ROWS):
        yield {name: part[start : start + ROWS] for name, part in data.items()}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


async def test_two_workers_train_for_three_cycles(tmp_path: pathlib.Path, case: Case) -> None:
    module = case.make()
    plan = training_plan(module, example=next(batches(data_of(case, 0))))
    config = {"name": "model", "version": "1.0", "batch_size": ROWS, "lr": RATE}
    with serve(create_app(Settings(data_dir=tmp_path, poll_seconds=0.05, retry_seconds=0.5))) as url:
        async with ModelCentricFLClient(url) as owner:
            await owner.host_federated_training_async(
                module,
                {"training_plan": plan},
                config,
                {"min_diffs": WORKERS, "max_diffs": WORKERS, "num_cycles": CYCLES},
                variants=[],
            )
            told: list[list[float]] = [[] for _ in range(WORKERS)]
            results = await asyncio.gather(
                *(
                    participate_async(
                        url, "model", "1.0", data_of(case, worker), verbose=True, cycles=CYCLES, wait=True,
                        seed=worker, events={"batch_end": lambda end, to=told[worker]: to.append(end.loss)},
                    )
                    for worker in range(WORKERS)
                )
            )  # fmt: skip
            await owner.wait_async("model", "1.0", finished=True, timeout=60)
            trained = (await owner.retrieve_model_async("model", "1.0", CYCLES + 1)).params
    assert [result.cycles for result in results] == [CYCLES] * WORKERS
    expected, losses = by_hand(module, case, plan)
    for worker, ours in enumerate(told):
        torch.testing.assert_close(ours, losses[worker], rtol=0, atol=1e-4)
    for name, ours, theirs in zip(module_state(module), trained, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5, msg=lambda text, n=name: f"{n}: {text}")
    moved = sum(
        not torch.equal(ours, before) for ours, before in zip(trained, model_parameters(module), strict=True)
    )
    assert moved >= sum(parameter.requires_grad for parameter in module.parameters()) // 2


def by_hand(module: nn.Module, case: Case, plan: Plan) -> tuple[list[Tensor], list[list[float]]]:
    """The model and each worker's losses: forward, `backward`, SGD and an average, in eager PyTorch.

    What dropout draws are the numbers of each worker's seed.
    """
    model = [value.detach() for value in model_parameters(module)]
    losses: list[list[float]] = [[] for _ in range(WORKERS)]
    for cycle in range(1, CYCLES + 1):
        trained = []
        for worker in range(WORKERS):
            own, stream = copy.deepcopy(module), RandomStream(worker)
            with torch.no_grad():
                for tensor, value in zip(model_parameters(own), model, strict=True):
                    tensor.copy_(value)
            optimizer = torch.optim.SGD([p for p in own.parameters() if p.requires_grad], lr=RATE)
            for step, batch in enumerate(batches(data_of(case, worker))):
                rows = len(next(iter(batch.values())))
                optimizer.zero_grad()
                with SameNumbers(plan.draw(stream, rows, cycle=cycle, step=step)):
                    loss = own(**batch).loss
                    loss.backward()
                optimizer.step()
                losses[worker].append(loss.item())
            trained.append([value.detach() for value in model_parameters(own)])
        model = [(one + other) / WORKERS for one, other in zip(*trained, strict=True)]
    return model, losses
