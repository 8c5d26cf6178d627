"""Every split: each sample in exactly one part, no part empty, the same for the same seed."""

import functools

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fedplan.data import (
    partition_by_key,
    partition_classes,
    partition_dirichlet,
    partition_iid,
    partition_quantity,
    partition_shards,
)
from fedplan.errors import DataError

ways = {
    "iid": lambda labels, parts, seed: partition_iid(len(labels), parts, seed=seed),
    "quantity": lambda labels, parts, seed: partition_quantity(len(labels), parts, alpha=0.3, seed=seed),
    "shards": lambda labels, parts, seed: partition_shards(labels, parts, seed=seed),
    "classes": lambda labels, parts, seed: partition_classes(labels, parts, seed=seed),
    "dirichlet": lambda labels, parts, seed: partition_dirichlet(labels, parts, alpha=0.3, seed=seed),
    "unbalanced": lambda labels, parts, seed: partition_dirichlet(
        labels, parts, alpha=3, balanced=False, seed=seed
    ),
}
alphas = st.floats(1e-6, 1e6)


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


@given(st.integers(1, 12), st.integers(1, 5), st.integers(0, 200), alphas, st.integers(0, 2**64))
def test_parts_of_unequal_sizes_hold_each_sample_once(parts, least, more, alpha, seed):
    samples = parts * least + more
    split = partition_quantity(samples, parts, alpha=alpha, least=least, seed=seed)

    assert len(split) == parts
    assert is_split(split, samples)
    assert min(map(len, split)) >= least


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


@given(labelled(per_part=10), st.integers(1, 3), st.floats(1, 1e6), st.integers(0, 2**64))
def test_unbalanced_dirichlet_parts_hold_each_sample_once(case, least, alpha, seed):
    labels, parts = case
    try:
        split = partition_dirichlet(labels, parts, alpha=alpha, balanced=False, least=least, seed=seed)
    except DataError:
        assume(False)  # no draw had enough for each: see test_labels
    assert len(split) == parts
    assert is_split(split, len(labels))
    assert min(map(len, split)) >= least


@given(st.integers(1, 12), st.integers(1, 6), st.integers(6, 9), st.data())
def test_parts_of_few_classes_hold_each_sample_once(parts, each, classes, data):
    parts = max(parts, -(-classes // each))
    sizes = data.draw(st.lists(st.integers(parts, 40), min_size=classes, max_size=classes))
    labels = np.repeat(np.arange(classes), sizes)
    split = partition_classes(labels, parts, classes_per_part=each, seed=data.draw(st.integers(0, 2**64)))

    assert len(split) == parts
    assert is_split(split, labels.size)
    assert all(np.unique(labels[part]).size == each for part in split)


@given(st.lists(st.integers(-3, 9) | st.integers(10**12, 10**12 + 2), min_size=1, max_size=60))
def test_keys_hold_each_sample_once(keys):
    split = partition_by_key(keys)

    assert len(split) == len(set(keys))
    assert is_split(split, len(keys))


@pytest.mark.parametrize("way", ways)
def test_the_seed_decides_the_split(way):
    labels = np.arange(200) % 10
    split = functools.partial(ways[way], labels, 8)

    def as_lists(parts):
        return [part.tolist() for part in parts]

    assert as_lists(split(1)) == as_lists(split(1))
    assert as_lists(split(1)) != as_lists(split(2))


@pytest.mark.parametrize("way", ways)
def test_fewer_samples_than_parts_is_an_error(way):
    with pytest.raises(DataError, match="3 samples cannot fill 4 parts: each needs at least one"):
        ways[way]([0, 1, 0], 4, 0)


@pytest.mark.parametrize("way", ways)
@pytest.mark.parametrize("parts", [0, -3])
def test_no_parts_is_an_error(way, parts):
    with pytest.raises(DataError, match="1 or more parts"):
        ways[way]([0, 1, 0], parts, 0)
