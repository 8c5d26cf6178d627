"""Samplers: orders are permutations, and pure functions of seed and epoch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedplan.data import BatchSampler, RandomSampler, Sampler, SequentialSampler
from fedplan.errors import DataError

lengths = st.integers(1, 300)
seeds = st.integers(0, 2**70)
epochs = st.integers(0, 10_000)


@given(lengths, seeds, epochs)
def test_a_random_order_holds_each_sample_once(length, seed, epoch):
    order = RandomSampler(range(length)).order(seed, epoch)

    assert sorted(order.tolist()) == list(range(length))


@given(lengths, seeds, epochs)
def test_a_random_order_depends_on_seed_and_epoch_alone(length, seed, epoch):
    sampler = RandomSampler(range(length))
    first = sampler.order(seed, epoch)
    sampler.order(seed + 1, epoch)
    torch.rand(1)

    assert np.array_equal(RandomSampler(range(length)).order(seed, epoch), first)


def test_a_random_order_differs_from_epoch_to_epoch_and_from_seed_to_seed():
    sampler = RandomSampler(range(100))
    orders = {tuple(sampler.order(seed, epoch)) for seed in range(5) for epoch in range(5)}

    assert len(orders) == 25


def test_a_random_order_stays_the_same_over_the_years():
    assert RandomSampler(range(10)).order(1, 2).tolist() == [3, 4, 6, 7, 2, 0, 9, 1, 5, 8]


def test_each_sample_comes_first_equally_often():
    sampler = RandomSampler(range(4))
    first = np.bincount([sampler.order(0, epoch)[0] for epoch in range(4000)])

    assert np.all(np.abs(first - 1000) < 150)  # 5 standard deviations


def test_a_sequential_order_is_that_of_the_data_set():
    sampler = SequentialSampler("abcd")

    assert list(sampler) == sampler.order(5, 6).tolist() == [0, 1, 2, 3]
    assert len(sampler) == sampler.length == 4


def test_iterating_a_random_sampler_gives_another_order_each_time():
    torch.manual_seed(0)
    sampler = RandomSampler(range(50))

    first, second = list(sampler), list(sampler)

    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second


def test_the_seed_of_torch_decides_the_order_of_an_iteration():
    def shuffled():
        torch.manual_seed(3)
        return list(RandomSampler(range(50)))

    assert shuffled() == shuffled()


def test_a_sampler_serves_the_loader_of_torch():
    loader = torch.utils.data.DataLoader(
        range(10), batch_sampler=BatchSampler(SequentialSampler(range(10)), 4)
    )

    assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def test_a_sampler_is_abstract():
    with pytest.raises(TypeError, match="order"):
        Sampler(range(3))


@given(lengths, st.integers(1, 40), st.booleans(), seeds, epochs)
def test_batches_are_the_order_cut_in_pieces(length, size, drop_last, seed, epoch):
    sampler = RandomSampler(range(length))
    batches = list(BatchSampler(sampler, size, drop_last).batches(seed, epoch))

    flat = [index for batch in batches for index in batch]
    assert flat == sampler.order(seed, epoch).tolist()[: len(flat)]
    assert len(flat) == (length - length % size if drop_last else length)
    assert all(len(batch) == size for batch in batches[:-1])
    assert len(batches) == len(BatchSampler(sampler, size, drop_last))


@given(lengths, st.integers(1, 40), st.booleans(), st.data())
def test_starting_later_gives_the_rest_of_the_same_batches(length, size, drop_last, data):
    sampler = BatchSampler(RandomSampler(range(length)), size, drop_last)
    start = data.draw(st.integers(0, sampler.length))

    assert list(sampler.batches(1, 2, start)) == list(sampler.batches(1, 2))[start:]


def test_indices_are_pythons_own_integers():
    (batch,) = BatchSampler(RandomSampler(range(3)), 3)

    assert {type(index) for index in batch} == {int}


@pytest.mark.parametrize("size", [0, -1, 2.5, True, "3", None])
def test_a_batch_size_that_is_not_a_count_is_refused(size):
    with pytest.raises(DataError, match="batch_size must be an integer from 1"):
        BatchSampler(SequentialSampler(range(3)), size)
