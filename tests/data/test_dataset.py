"""Data sets: what a subclass gives and what it gets."""

import numpy as np
import pytest
import torch
import torch.utils.data

from fedplan.data import Dataset, TensorDataset, ToTensor
from fedplan.errors import DataError


class Letters(Dataset):
    def get_item(self, index):
        return torch.tensor(index + 1), torch.tensor("ABCDE".index("ABCDE"[index]) % 2)

    @property
    def length(self):
        return 5


def test_a_subclass_is_indexed_through_get_item():
    data, label = Letters()[2]

    assert (int(data), int(label)) == (3, 0)


def test_a_subclass_has_a_length():
    assert len(Letters()) == Letters().length == 5


def test_negative_indices_count_from_the_end():
    assert int(Letters()[-1][0]) == 5


def test_numpy_integers_are_indices():
    assert int(Letters()[np.int64(1)][0]) == 2


@pytest.mark.parametrize("index", [5, -6, 100])
def test_an_index_beyond_the_end_is_an_index_error(index):
    with pytest.raises(IndexError, match="data set of 5 samples"):
        Letters()[index]


def test_a_data_set_can_be_iterated():
    assert [int(data) for data, _ in Letters()] == [1, 2, 3, 4, 5]


def test_a_data_set_is_one_of_torch():
    assert isinstance(Letters(), torch.utils.data.Dataset)
    assert len(torch.utils.data.Subset(Letters(), [0, 3])) == 2


@pytest.mark.parametrize("missing", ["get_item", "length"])
def test_a_subclass_without_get_item_or_length_cannot_be_made(missing):
    given = {"get_item": lambda self, index: index, "length": property(lambda self: 1)}
    incomplete = type("Incomplete", (Dataset,), {k: v for k, v in given.items() if k != missing})

    with pytest.raises(TypeError, match=missing):
        incomplete()


def test_a_tensor_dataset_puts_rows_side_by_side():
    dataset = TensorDataset(np.arange(6.0, dtype=np.float32).reshape(3, 2), [7, 8, 9])

    image, label = dataset[1]

    assert dataset.length == 3
    assert image.tolist() == [2.0, 3.0]
    assert int(label) == 8


def test_a_tensor_dataset_shares_the_memory_of_its_arrays():
    array = np.zeros((2, 3), np.float32)

    assert np.shares_memory(TensorDataset(array).tensors[0].numpy(), array)


@pytest.mark.parametrize("transform", [None, ToTensor({"dtype": "float64"})])
def test_a_tensor_dataset_makes_the_batch_that_its_samples_make(transform):
    dataset = TensorDataset(torch.arange(8.0).reshape(4, 2), torch.arange(4), transform=transform)

    images, labels = dataset.get_batch([3, 1])

    assert torch.equal(images, torch.stack([dataset[3][0], dataset[1][0]]))
    assert images.dtype == dataset[3][0].dtype
    assert labels.tolist() == [3, 1]


@pytest.mark.parametrize(
    "arrays",
    [
        pytest.param((np.zeros((3, 2)), np.zeros(4)), id="other numbers of rows"),
        pytest.param((np.zeros(3), np.float32(1.0)), id="a number among arrays"),
        pytest.param((np.float32(1.0),), id="a number alone"),
        pytest.param((), id="no array"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(arrays):
    with pytest.raises(DataError, match="same number of rows"):
        TensorDataset(*arrays)


def test_arrays_that_are_not_numeric_are_refused():
    with pytest.raises(DataError, match="cannot become a tensor"):
        TensorDataset(np.array(["a", "b"]))
