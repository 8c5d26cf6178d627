"""A training in one piece is the training that `PlanTrainer` does."""

from typing import Any

import pytest
import torch

from fedplan.client import PlanTrainer
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.training import Training
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import ConfigError, DataError
from fedplan.plan import RandomStream
from tests.client.training_cases import BATCH, make_data, make_model, make_plan

CONFIG = {"lr": 0.05}


def loader() -> DataLoader:
    return DataLoader(TensorDataset(*make_data()), batch_size=BATCH, seed=3)


def start(seed: int) -> RandomState:
    return RandomState(RandomStream(seed), 2, 0)


@pytest.mark.parametrize("plan", [make_plan(), make_plan("Adam"), make_plan(dropout=0.4)])
@pytest.mark.parametrize("most", [None, 3])
async def test_it_gives_the_bits_of_a_plan_trainer(plan: Any, most: int | None) -> None:
    x, y = make_data()
    options: dict[str, Any] = {"epochs": 2, "batch_size": BATCH, "steps_per_epoch": most}
    trainer = PlanTrainer(
        plan=plan, model=make_model(), data=x, target=y, client_config=CONFIG, seed=5, cycle=2, **options
    )
    await trainer.start()
    step = Training.of(plan, CONFIG, **options).run(make_model(), x, y, start(5))
    for ours, theirs in zip(step.params, trainer.current_model.params, strict=True):
        assert torch.equal(ours, theirs)
    assert step.measurements.summary() == trainer.summary
    assert trainer.summary.steps == 2 * (most or 7)


async def test_a_loader_decides_its_batches() -> None:
    trainer = PlanTrainer(plan=make_plan(), model=make_model(), data=loader(), client_config=CONFIG, epochs=2)
    await trainer.start()
    step = Training.of(make_plan(), CONFIG, epochs=2).run(make_model(), loader(), None, start(0))
    for ours, theirs in zip(step.params, trainer.current_model.params, strict=True):
        assert torch.equal(ours, theirs)


def test_the_model_keeps_its_values() -> None:
    model, x, y = make_model(), *make_data()
    Training.of(make_plan(), CONFIG, batch_size=BATCH).run(model, x, y, start(0))
    for kept, made in zip(model.params, make_model().params, strict=True):
        assert torch.equal(kept, made)


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(ConfigError, match="epochs must be a positive integer"):
        Training.of(make_plan(), CONFIG, epochs=0)
    training = Training.of(make_plan(), CONFIG)
    with pytest.raises(ConfigError, match="there is no batch size"):
        training.run(make_model(), *make_data(), start(0))
    used_up = torch.utils.data.DataLoader(Once(make_data()), batch_size=None)
    training = Training.of(make_plan(), CONFIG, epochs=2)
    with pytest.raises(DataError, match="epoch 1 has no batch"):
        training.run(make_model(), used_up, None, start(0))


class Once(torch.utils.data.IterableDataset[Any]):
    """One batch, which can be had once."""

    def __init__(self, batch: Any) -> None:
        self.batches = iter([batch])

    def __iter__(self) -> Any:
        return self.batches
