"""DP-SGD in `PlanTrainer`: batches and noise of the worker's own, and what it says that was spent."""

import asyncio
import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.client import DpSgdSteps, ExamplePrivacy, PlanTrainer, SyftModel
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint
from fedplan.client.training.poisson import LOTS
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import ConfigError
from fedplan.plan import DpSgd, Plan, RandomStream, accuracy, model_parameters, training_plan
from fedplan.plan.leaving import leaving
from fedplan.wire import Summary
from tests.plan.dp_sgd_by_hand import by_hand, noise_like

DP = DpSgd(max_grad_norm=0.7, noise_multiplier=1.5, expected_batch_size=6)
SAMPLES, RATE, SEED, CYCLE = 30, 0.3, 11, 2


def net() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 3))


def data_of(seed: int = 0, samples: int = SAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return 4 * torch.randn(samples, 5, generator=generator), torch.randint(3, (samples,), generator=generator)


@functools.cache
def a_plan() -> Plan:
    metrics = {"accuracy": accuracy}
    return training_plan(net(), F.cross_entropy, example=data_of(samples=4), metrics=metrics, dp=DP)


def trainer(**changes: Any) -> PlanTrainer:
    x, y = data_of()
    given: dict[str, Any] = {
        "plan": a_plan(), "model": SyftModel(model_parameters(net())), "data": x, "target": y,
        "client_config": {"lr": RATE}, "epochs": 2, "seed": SEED, "cycle": CYCLE,
    }  # fmt: skip
    return PlanTrainer(**(given | changes))


def trained(**changes: Any) -> PlanTrainer:
    made = trainer(**changes)
    asyncio.run(made.start())
    return made


def test_whole_tensors_are_trained_in_poisson_batches_with_noise_of_the_workers_seed() -> None:
    model, stream, sizes = net(), RandomStream(SEED), []
    x, y = data_of()
    for step in range(10):  # two epochs of SAMPLES / 6
        lots = stream.uniform((SAMPLES,), cycle=CYCLE, step=step, number=LOTS, dtype=torch.float64)
        kept = lots < DP.expected_batch_size / SAMPLES
        sizes.append(int(kept.sum()))
        noise = noise_like(
            model, stream.normal((39,), cycle=CYCLE, step=step, number=0, dtype=torch.float64), DP
        )
        by_hand(model, x[kept], y[kept], DP, RATE, noise)
    made = trained()
    for ours, theirs in zip(made.current_model.params, model_parameters(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    assert len(set(sizes)) > 3


def test_it_says_what_was_spent_of_the_examples_privacy() -> None:
    made = trained()
    assert made.example_privacy == ExamplePrivacy.of([DpSgdSteps(1.5, 0.2, 10)])
    assert trainer().example_privacy == ExamplePrivacy()
    assert trained(steps_per_epoch=2).example_privacy == ExamplePrivacy.of([DpSgdSteps(1.5, 0.2, 4)])


def test_batches_that_others_made_are_trained_and_claim_no_sampling() -> None:
    loader = DataLoader(TensorDataset(*data_of()), batch_size=8)
    made = trained(data=loader, target=None, epochs=1)
    assert made.example_privacy == ExamplePrivacy.of([DpSgdSteps(1.5, 1.0, 4)])
    torch_loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(*data_of()), batch_size=10)
    assert trained(data=torch_loader, target=None, epochs=1).example_privacy == ExamplePrivacy.of(
        [DpSgdSteps(1.5, 1.0, 3)]
    )


def test_a_worker_with_few_samples_gains_nothing_from_sampling() -> None:
    x, y = data_of(samples=3)
    assert trained(data=x, target=y).example_privacy == ExamplePrivacy.of([DpSgdSteps(1.5, 1.0, 2)])


def test_what_is_told_has_no_loss_no_metric_and_no_size_of_a_batch() -> None:
    made = trained()
    assert made.summary == Summary(float(SAMPLES), 10.0)
    assert made.means.keys() == {"loss", "accuracy"}  # for the worker itself


@pytest.mark.parametrize("at", [3, 7])
def test_a_training_that_is_gone_on_with_has_the_bits_of_one_in_one_piece(at: int) -> None:
    half = trainer()
    seen: list[int] = []

    async def stop_there(_: object) -> None:
        seen.append(1)
        if len(seen) == at:
            half.stopped = True

    half.on("batch_end", stop_there)
    asyncio.run(half.start())
    kept = PlanTrainerCheckpoint.from_json(None, half.create_checkpoint().to_dict())
    rest = trainer(checkpoint=kept, seed=None)
    asyncio.run(rest.resume())
    for ours, theirs in zip(rest.current_model.params, trained().current_model.params, strict=True):
        assert torch.equal(ours, theirs)
    assert rest.example_privacy == trained().example_privacy


def test_another_batch_size_is_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"the batch size is 8, .* Poisson batches of 6 samples in the mean"
    ):
        trainer(batch_size=8)
    assert trained(batch_size=6, epochs=1).summary.steps == 5


def test_a_plan_that_takes_a_mask_must_say_its_constants() -> None:
    with pytest.raises(ConfigError, match="says no constants of DP-SGD that can be read"):
        trainer(plan=dataclasses.replace(a_plan(), dp=None), batch_size=6)


def test_a_plan_that_cannot_do_what_it_says_is_refused() -> None:
    plain = training_plan(net(), F.cross_entropy, example=data_of(samples=4))
    with pytest.raises(ConfigError, match="says that it does DP-SGD, and takes no mask"):
        trainer(plan=dataclasses.replace(plain, dp=DP))
    quiet = dataclasses.replace(DP, noise_multiplier=0.0)
    silent = training_plan(net(), F.cross_entropy, example=data_of(samples=4), dp=quiet)
    with pytest.raises(ConfigError, match="says that it does DP-SGD, and takes no noise"):
        trainer(plan=dataclasses.replace(silent, dp=DP))
    assert trained(plan=silent, epochs=1).example_privacy == ExamplePrivacy.of([DpSgdSteps(0.0, 0.2, 5)])


def test_a_review_says_that_neither_loss_nor_metrics_leave_the_machine() -> None:
    assert leaving(a_plan()).kinds == ("parameters",)


def test_a_plan_without_it_spends_nothing_that_is_known() -> None:
    plain = training_plan(net(), F.cross_entropy, example=data_of(samples=4))
    assert trained(plan=plain, batch_size=6).example_privacy is None
