"""Poisson batches: lots for each sample, drawn from the worker's seed."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.poisson import PoissonBatches
from fedplan.errors import CheckpointError, DataError
from fedplan.plan import PlanInput, PlanInputSpec, RandomStream

SAMPLES, EXPECTED = 400, 25
WANTS = [(PlanInputSpec(kind), PlanInput(kind, (None,), "int64")) for kind in ("data", "target")]


def source(
    samples: int = SAMPLES, seed: int = 1, cycle: int | None = 3, target: Any = None
) -> PoissonBatches:
    places = torch.arange(samples)
    start = RandomState(RandomStream(seed), cycle, 0)
    return PoissonBatches(places, -places if target is None else target, EXPECTED, WANTS, start)


def chosen(batch: tuple[Tensor, ...]) -> list[int]:
    data, _, mask = batch
    kept: list[int] = data[mask > 0].tolist()
    return kept


def test_each_sample_is_in_each_batch_by_a_lot_of_its_own() -> None:
    batches = source()
    drawn = [chosen(batch) for _ in range(40) for batch in batches.open()]
    assert len(drawn) == 40 * SAMPLES // EXPECTED
    together = torch.zeros(SAMPLES)
    for places in drawn:
        assert places == sorted(set(places))
        together[places] += 1
    mean = len(drawn) * batches.rate
    deviation = math.sqrt(mean * (1 - batches.rate))
    assert abs(float(together.mean()) - mean) < 4 * deviation / math.sqrt(SAMPLES)
    assert float(together.std()) == pytest.approx(deviation, rel=0.15)
    sizes = torch.tensor([float(len(places)) for places in drawn])
    assert float(sizes.std()) == pytest.approx(math.sqrt(EXPECTED * (1 - batches.rate)), rel=0.15)


def test_a_batch_is_filled_up_to_one_of_few_sizes_and_none_is_cut() -> None:
    batches = source()
    found = [batch for _ in range(40) for batch in batches.open()]
    assert {len(batch[0]) % 5 for batch in found} == {0}
    assert len({len(batch[0]) for batch in found}) <= 9 < len({len(chosen(batch)) for batch in found})
    for data, target, mask in found:
        count = int(mask.sum())
        assert mask.tolist() == [1.0] * count + [0.0] * (len(mask) - count)
        assert (data[count:] == 0).all()
        assert (target == -data).all()


def test_a_batch_may_have_no_sample() -> None:
    few = PoissonBatches(torch.arange(50), None, 1, WANTS[:1], RandomState(RandomStream(0), 1, 0))
    sizes = [int(mask.sum()) for _ in range(10) for _, mask in few.open()]
    assert sizes.count(0) == pytest.approx(len(sizes) * math.exp(-1), rel=0.2)
    assert all(len(batch[0]) >= 1 for batch in few.open())


def test_lots_follow_from_seed_cycle_and_number_of_the_batch() -> None:
    first = [chosen(batch) for batch in source().open()]
    assert [chosen(batch) for batch in source().open()] == first
    assert [chosen(batch) for batch in source(seed=2).open()] != first
    assert [chosen(batch) for batch in source(cycle=4).open()] != first
    assert len(set(map(tuple, first))) == len(first)


def test_it_comes_back_into_the_middle_of_an_epoch() -> None:
    batches = source()
    batches.open()
    whole = [chosen(batch) for batch in batches.open()]
    again = source()
    assert [chosen(batch) for batch in again.reopen(batches.state(), 5)] == whole[5:]
    assert [chosen(batch) for batch in again.open()] == [chosen(batch) for batch in batches.open()]


def test_a_checkpoint_of_other_batches_is_refused() -> None:
    with pytest.raises(CheckpointError, match="batches of another kind"):
        source().reopen({"epoch": 1}, 0)


def test_with_fewer_samples_than_expected_each_batch_has_all() -> None:
    batches = source(samples=10)
    assert (batches.rate, batches.count()) == (1.0, 1)
    assert [chosen(batch) for batch in batches.open()] == [list(range(10))]


def test_data_and_target_must_fit_each_other() -> None:
    with pytest.raises(DataError, match="differ in the number of samples"):
        source(target=torch.arange(3))
