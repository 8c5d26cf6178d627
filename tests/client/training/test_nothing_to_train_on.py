"""Data that make no batch are an error before anything is reported, whatever their form."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
import torch.utils.data
from torch import nn

from fedplan.client import PlanTrainer, SyftModel, participate
from fedplan.data import DataLoader, TensorDataset
from fedplan.errors import DataError, PlanExecutionError
from fedplan.plan import Plan, model_parameters, training_plan
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import BATCH, FEATURES, make_data, make_trainer

IMAGES, LABELS = make_data()
DATASET = torch.utils.data.TensorDataset(IMAGES, LABELS)


class Stream(torch.utils.data.IterableDataset[Any]):
    """Samples that can be gone through only as often as their iterator can."""

    def __init__(self, samples: Any) -> None:
        self.samples = samples

    def __iter__(self) -> Iterator[Any]:
        return iter(self.samples)


def loader_of(samples: Any, **options: Any) -> Any:
    return torch.utils.data.DataLoader(Stream(samples), batch_size=BATCH, **options)


def used_up() -> Any:
    samples = iter(DATASET)  # type: ignore[call-overload]  # an iterator: what is taken is gone
    for _ in samples:
        pass
    return samples


def shrunk() -> DataLoader:
    samples = [(IMAGES[0], LABELS[0])]
    loader = DataLoader(samples, batch_size=1)
    samples.clear()
    return loader


class NoBatch(torch.utils.data.Sampler[list[int]]):
    """Says that it makes a batch, and makes none."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter(())

    def __len__(self) -> int:
        return 1


KNOWN = {
    "tensors": lambda: {"data": IMAGES[:0], "target": LABELS[:0]},
    "arrays": lambda: {"data": np.zeros((0, FEATURES)), "target": np.zeros(0, np.int64)},
    "arrays by name": lambda: {"data": {"data": IMAGES[:0]}, "target": {"target": LABELS[:0]}},
    "a loader that drops its only batch": lambda: {
        "data": torch.utils.data.DataLoader(DATASET, batch_size=100, drop_last=True)
    },
    "a loader of an empty data set": lambda: {
        "data": torch.utils.data.DataLoader(torch.utils.data.TensorDataset(IMAGES[:0], LABELS[:0]))
    },
    "a loader of no samples": lambda: {
        "data": torch.utils.data.DataLoader(DATASET, sampler=torch.utils.data.SubsetRandomSampler([]))
    },
    "a loader of no batches": lambda: {"data": torch.utils.data.DataLoader(DATASET, batch_sampler=[])},
    "a fedplan loader whose data set was emptied": lambda: {"data": shrunk()},
}
FOUND_LATER = {
    "an empty stream": lambda: {"data": loader_of([])},
    "a stream that drops its only batch": lambda: {
        "data": loader_of(list(DATASET)[:2], drop_last=True)  # type: ignore[call-overload]
    },
    "a stream that is used up": lambda: {"data": loader_of(used_up())},
    "a generator without an element": lambda: {"data": loader_of(sample for sample in ())},
    "a sampler that says another length": lambda: {
        "data": torch.utils.data.DataLoader(DATASET, batch_sampler=NoBatch())
    },
    "batches without samples": lambda: {
        "data": torch.utils.data.DataLoader(Stream([(IMAGES[:0], LABELS[:0])]), batch_size=None)
    },
}


@pytest.mark.parametrize("form", [*KNOWN, *FOUND_LATER])
async def test_a_training_without_a_batch_is_an_error(form: str) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        await make_trainer(**{"target": None, **(KNOWN | FOUND_LATER)[form]()}).start()


@pytest.mark.parametrize("form", KNOWN)
def test_what_is_seen_at_once_is_said_before_the_grid_is_asked(grid: SmallGrid, form: str) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        participate(grid.url, "m", "1.0", **{"target": None, **KNOWN[form]()}, verbose=True)
    assert grid.requests == []


@pytest.mark.parametrize("form", FOUND_LATER)
def test_what_shows_in_the_training_is_said_and_not_reported(grid: SmallGrid, form: str) -> None:
    with pytest.raises(DataError, match="nothing to train on"):
        participate(grid.url, "m", "1.0", **FOUND_LATER[form](), verbose=True)
    assert len(grid.asked("cycle-request")) == 1
    assert grid.asked("report") == []


@pytest.mark.parametrize("cycles", [1, 2])
def test_a_stream_that_is_used_up_after_an_epoch_is_not_trained_on_again(
    grid: SmallGrid, cycles: int
) -> None:
    loader = loader_of(iter(DATASET))  # type: ignore[call-overload]
    with pytest.raises(DataError, match=r"epoch \d has no batch.*__iter__ begin anew"):
        participate(grid.url, "m", "1.0", loader, epochs=3 - cycles, cycles=cycles, verbose=True)
    assert len(grid.asked("report")) == cycles - 1


async def test_a_batch_without_samples_among_others_is_an_error() -> None:
    batches = [(IMAGES[:4], LABELS[:4]), (IMAGES[:0], LABELS[:0])]
    loader = torch.utils.data.DataLoader(Stream(batches), batch_size=None)
    with pytest.raises(DataError, match="a batch holds no sample"):
        await make_trainer(data=loader, target=None).start()


async def test_a_batch_of_another_form_than_the_first_is_an_error() -> None:
    batches = [(IMAGES[:4], LABELS[:4]), (IMAGES[:4],)]
    loader = torch.utils.data.DataLoader(Stream(batches), batch_size=None)
    with pytest.raises(DataError, match="another form than the first one"):
        await make_trainer(data=loader, target=None).start()


@pytest.mark.parametrize("kind", ["torch", "fedplan"])
async def test_a_training_cannot_go_on_with_a_loader_that_is_shorter_than_it_was(kind: str) -> None:
    def loader(samples: int) -> Any:
        if kind == "torch":
            return torch.utils.data.DataLoader(torch.utils.data.Subset(DATASET, range(samples)), BATCH)
        return DataLoader(TensorDataset(IMAGES[:samples], LABELS[:samples]), BATCH)

    trainer = make_trainer(data=loader(26), target=None)
    trainer.on("batch_end", lambda event: trainer.stop() if event.batch == 4 else None)
    await trainer.start()
    resumed = make_trainer(data=loader(12), target=None, checkpoint=trainer.create_checkpoint())
    with pytest.raises(DataError, match="goes on behind batch 5 of an epoch, and the DataLoader makes 3"):
        await resumed.resume()


async def test_a_training_that_was_stopped_at_the_end_of_its_data_is_no_error() -> None:
    trainer = make_trainer(data=loader_of(list(DATASET)), target=None)  # type: ignore[call-overload]
    trainer.on("batch_end", lambda event: trainer.stop() if event.batch == 6 else None)
    await trainer.start()
    await trainer.resume()
    assert not trainer.stopped


# A last batch of one sample, with batch norm


def normalising(x: torch.Tensor = IMAGES) -> tuple[nn.Module, Plan]:
    model = nn.Sequential(nn.Linear(FEATURES, 8), nn.BatchNorm1d(8), nn.Linear(8, 3))
    return model, training_plan(model, nn.functional.cross_entropy, example=(x[:8], LABELS[:8]))


def trainer_of(model: nn.Module, plan: Plan, data: Any, target: Any = None, **options: Any) -> PlanTrainer:
    return PlanTrainer(
        plan=plan,
        model=SyftModel([p.clone() for p in model_parameters(model)]),
        data=data,
        target=target,
        client_config={"lr": 0.1},
        **options,
    )


async def test_a_last_single_sample_that_batch_norm_cannot_take_is_left_out_and_the_log_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    model, plan = normalising()
    trained = []
    for rows in (25, 24):
        with caplog.at_level(logging.WARNING, "fedplan"):
            trainer = trainer_of(model, plan, IMAGES[:rows], LABELS[:rows], batch_size=8, epochs=2)
        await trainer.start()
        assert trainer.batches_per_epoch == 3
        trained.append(trainer.current_model.serialize())
    assert trained[0] == trained[1]
    (record,) = caplog.records
    assert "the last of 25 samples would be a batch of its own and is left out" in record.getMessage()
    assert "_native_batch_norm_legit" in record.getMessage()


async def test_a_last_single_sample_is_used_where_the_plan_can_take_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    trainer = make_trainer(data=IMAGES[:25], target=LABELS[:25], batch_size=8)
    assert trainer.batches_per_epoch == 4
    await trainer.start()
    assert (trainer.batch_idx, caplog.records) == (4, [])


def test_a_single_sample_is_nothing_that_batch_norm_can_be_trained_on() -> None:
    with pytest.raises(DataError, match=r"there is one sample.*fewer than two values per channel"):
        trainer_of(*normalising(), IMAGES[:1], LABELS[:1], batch_size=8)


@pytest.mark.parametrize("batch_size", [1, 5])
async def test_a_single_sample_of_a_loader_is_an_error_that_says_what_to_do(batch_size: int) -> None:
    loader = torch.utils.data.DataLoader(torch.utils.data.Subset(DATASET, range(16)), batch_size)
    with pytest.raises(PlanExecutionError, match=r"batch_norm.*test_nothing.*\.py:.*drop_last=True"):
        await trainer_of(*normalising(), loader).start()


async def test_batches_of_one_sample_are_an_error_that_says_what_to_do() -> None:
    with pytest.raises(PlanExecutionError, match="take a batch size that leaves none"):
        await trainer_of(*normalising(), IMAGES, LABELS, batch_size=1).start()
