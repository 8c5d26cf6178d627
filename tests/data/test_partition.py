"""Splits: every sample in exactly one part, no part empty, the same for the same seed."""

import functools

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedplan.data import partition_dirichlet, partition_iid, partition_shards
from fedplan.errors import DataError

ways = {
    "iid": lambda labels, parts, seed: partition_iid(len(labels), parts, seed=seed),
    "shards": lambda labels, parts, seed: partition_shards(labels, parts, seed=seed),
    "dirichlet": lambda labels, parts, seed: partition_dirichlet(labels, parts, alpha=0.3, seed=seed),
}


def is_split(parts, samples):
    """Every sample in exactly one part, no part empty, each ascending."""
    everything = np.sort(np.concatenate(parts))
    return (
        np.array_equal(everything, np.arange(samples))
        and all(part.size for part in parts)
        and all(np.all(np.diff(part) > 0) for part in parts)
    )


@st.composite
def labelled(draw, per_part=1):
    parts = draw(st.integers(1, 12))
    least = parts * per_part
    return draw(st.lists(st.integers(0, 5), min_size=least, max_size=least + 60)), parts


@given(st.integers(1, 12), st.integers(0, 200), st.integers(0, 2**64))
def test_iid_parts_hold_each_sample_once(parts, more, seed):
    split = partition_iid(parts + more, parts, seed=seed)

    assert len(split) == parts
    assert is_split(split, parts + more)
    assert max(map(len, split)) - min(map(len, split)) <= 1


@given(labelled(per_part=3), st.integers(1, 3), st.integers(0, 2**64))
def test_shards_hold_each_sample_once(case, shards, seed):
    labels, parts = case
    split = partition_shards(labels, parts, shards_per_part=shards, seed=seed)

    assert len(split) == parts
    assert is_split(split, len(labels))
    assert max(map(len, split)) - min(map(len, split)) <= shards


@given(labelled(), st.floats(1e-6, 1e6), st.integers(0, 2**64))
def test_dirichlet_parts_hold_each_sample_once(case, alpha, seed):
    labels, parts = case
    split = partition_dirichlet(labels, parts, alpha=alpha, seed=seed)

    assert len(split) == parts
    assert is_split(split, len(labels))
    assert max(map(len, split)) - min(map(len, split)) <= 1


@pytest.mark.parametrize("way", ways)
def test_the_seed_decides_the_split(way):
    labels = np.arange(200) % 10
    split = functools.partial(ways[way], labels, 8)

    def as_lists(parts):
        return [part.tolist() for part in parts]

    assert as_lists(split(1)) == as_lists(split(1))
    assert as_lists(split(1)) != as_lists(split(2))


@pytest.mark.parametrize("kind", [list, torch.tensor, lambda v: np.array(v).astype(str)])
def test_labels_come_in_any_form(kind):
    labels = [0, 1] * 10

    parts = partition_shards(kind(labels), 2, shards_per_part=1)

    assert [{labels[i] for i in part} for part in parts] in ([{0}, {1}], [{1}, {0}])


def test_two_shards_hold_few_labels():
    labels = np.arange(1000) % 10

    parts = partition_shards(labels, 10, shards_per_part=2)

    assert max(len(np.unique(labels[part])) for part in parts) <= 4
    assert np.mean([len(np.unique(labels[part])) for part in parts]) <= 2


def _spread(alpha):
    """Mean share of a part's most frequent label."""
    labels = np.arange(5000) % 10
    parts = partition_dirichlet(labels, 20, alpha=alpha, seed=1)
    return np.mean([np.bincount(labels[part]).max() / part.size for part in parts])


def test_alpha_sets_how_much_the_mixtures_differ():
    assert _spread(1e6) < 0.2
    assert _spread(1e6) < _spread(10) < _spread(1) < _spread(0.1)


def test_a_tiny_alpha_gives_a_single_label_while_samples_last():
    labels = np.arange(1000) % 10

    first = partition_dirichlet(labels, 20, alpha=1e-6)[0]

    assert np.unique(labels[first]).size == 1


def test_a_large_alpha_follows_an_unbalanced_data_set():
    labels = np.array([0] * 900 + [1] * 100)

    parts = partition_dirichlet(labels, 5, alpha=1e6)

    shares = [np.mean(labels[part]) for part in parts]
    assert max(abs(share - 0.1) for share in shares) < 0.06


@pytest.mark.parametrize("way", ways)
def test_fewer_samples_than_parts_is_an_error(way):
    with pytest.raises(DataError, match="3 samples cannot fill 4 parts"):
        ways[way]([0, 1, 0], 4, 0)


@pytest.mark.parametrize("way", ways)
@pytest.mark.parametrize("parts", [0, -3])
def test_no_parts_is_an_error(way, parts):
    with pytest.raises(DataError, match="1 or more parts"):
        ways[way]([0, 1, 0], parts, 0)


def test_fewer_samples_than_shards_is_an_error():
    with pytest.raises(DataError, match="7 samples cannot fill 8 shards"):
        partition_shards(range(7), 4, shards_per_part=2)


def test_no_shards_is_an_error():
    with pytest.raises(DataError, match="at least one shard"):
        partition_shards([0, 1], 1, shards_per_part=0)


@pytest.mark.parametrize("alpha", [0, -1, 1e7, float("nan"), float("inf")])
def test_an_alpha_out_of_range_is_an_error(alpha):
    with pytest.raises(DataError, match="alpha must be from"):
        partition_dirichlet([0, 1, 0], 2, alpha=alpha)


@pytest.mark.parametrize("labels", [np.zeros((3, 2)), 5])
def test_labels_that_are_not_a_list_are_an_error(labels):
    with pytest.raises(DataError, match="labels must be a list"):
        partition_dirichlet(labels, 2, alpha=1.0)
