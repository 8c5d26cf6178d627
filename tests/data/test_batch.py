"""Samples become batches, and errors name the sample that does not fit."""

import numpy as np
import pytest
import torch

from fedplan.data import collate
from fedplan.errors import DataError


def test_samples_of_two_items_become_a_list_of_two_batches():
    images, labels = collate([(torch.zeros(2, 3), 1), (torch.ones(2, 3), 0), (torch.ones(2, 3), 2)])

    assert images.shape == (3, 2, 3)
    assert labels.tolist() == [1, 0, 2]


def test_bare_samples_become_a_tensor():
    batch = collate([torch.tensor(0), torch.tensor(1)])

    assert torch.equal(batch, torch.tensor([0, 1]))


def test_dicts_become_a_dict():
    batch = collate([{"x": 1.5, "y": 0}, {"y": 1, "x": 2.5}])

    assert batch["x"].tolist() == [1.5, 2.5]
    assert batch["y"].tolist() == [0, 1]


def test_nested_samples_keep_their_form():
    batch = collate([((1, [2.0]), {"m": np.zeros(3)})] * 2)

    assert isinstance(batch, list)
    assert batch[0][0].tolist() == [1, 1]
    assert batch[0][1][0].tolist() == [2.0, 2.0]
    assert batch[1]["m"].shape == (2, 3)


@pytest.mark.parametrize(
    ("values", "dtype"),
    [
        ([1, 2], torch.int64),
        ([1, 2.5], torch.float32),
        ([True, False], torch.bool),
        ([np.float64(1), np.float64(2)], torch.float64),
        ([np.uint8(1), np.uint8(2)], torch.uint8),
        ([np.zeros(2, np.float16)] * 2, torch.float16),
        ([torch.zeros(2, dtype=torch.bfloat16)] * 2, torch.bfloat16),
        ([np.zeros(2, np.float32), torch.zeros(2)], torch.float32),
    ],
)
def test_values_keep_their_kind(values, dtype):
    assert collate(values).dtype == dtype


def test_a_batch_does_not_share_memory_with_its_samples():
    sample = np.zeros(3)

    collate([sample, sample])[0] += 1

    assert sample.tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        pytest.param(
            [(torch.zeros(2), 0), (torch.zeros(3), 0)],
            r"sample 40\[0\] is a tensor of shape \[2\] .* float32, sample 7\[0\] is a tensor of shape \[3\]",
            id="other shape",
        ),
        pytest.param(
            [torch.zeros(2), torch.zeros(2).double()],
            "sample 40 is .* float32, sample 7 is .* float64",
            id="other dtype",
        ),
        pytest.param(
            [(1, 2), (1, 2, 3)], "sample 40 is a tuple of 2, sample 7 is a tuple of 3", id="other length"
        ),
        pytest.param([(1, 2), 1], "sample 40 is a tuple of 2, sample 7 is a int", id="other form"),
        pytest.param(
            [{"x": 1}, {"y": 1}], "the keys 'x', sample 7 is a dict with the keys 'y'", id="other keys"
        ),
        pytest.param([{"x": 1}, torch.zeros(2)], "sample 7 is a tensor", id="dict and tensor"),
        pytest.param([{"x": (1, "cat")}] * 2, r"sample 40\['x'\]\[1\]: a value of type str", id="a text"),
        pytest.param([1, 2**80], "samples 40 to 7: .*cannot become a tensor", id="a number too large"),
    ],
)
def test_an_error_names_the_sample_and_what_differs(samples, message):
    with pytest.raises(DataError, match=message):
        collate(samples, [40, 7])


def test_without_indices_samples_are_counted():
    with pytest.raises(DataError, match="sample 2 is"):
        collate([torch.zeros(2), torch.zeros(2), torch.zeros(3)])


def test_no_samples_make_no_batch():
    with pytest.raises(DataError, match="at least one sample"):
        collate([])
