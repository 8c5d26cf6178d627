"""What users hold, as tensors."""

import numpy as np
import pytest
import torch

from fedplan.data.tensor import to_dtype, to_tensor
from fedplan.errors import DataError


def test_a_tensor_is_taken_as_it_is():
    tensor = torch.zeros(2)

    assert to_tensor(tensor) is tensor


@pytest.mark.parametrize("dtype", ["uint8", "int16", "int64", "float16", "float32", "float64", "bool"])
def test_an_array_keeps_its_dtype_and_shares_its_memory(dtype):
    array = np.ones((2, 3), dtype)

    tensor = to_tensor(array)

    assert tensor.dtype == to_dtype(dtype)
    assert np.shares_memory(tensor.numpy(), array)


@pytest.mark.parametrize(
    ("value", "dtype"),
    [
        (3, torch.int64),
        (2.5, torch.float32),
        (True, torch.bool),
        ([[1, 2], [3, 4]], torch.int64),
        (np.float64(2.5), torch.float64),
        (np.int8(2), torch.int8),
    ],
)
def test_numbers_become_tensors_of_their_kind(value, dtype):
    tensor = to_tensor(value)

    assert tensor.dtype == dtype
    assert tensor.tolist() == (value.item() if isinstance(value, np.generic) else value)


def _read_only():
    array = np.arange(6.0)
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "array",
    [
        pytest.param(_read_only(), id="read-only"),
        pytest.param(np.arange(6.0)[::-1], id="backwards"),
        pytest.param(np.arange(6.0).astype(">f8"), id="big-endian"),
        pytest.param(np.arange(12.0).reshape(3, 4).T, id="transposed"),
        pytest.param(np.arange(6.0)[:, None], id="strided"),
    ],
)
def test_memory_that_torch_cannot_use_is_copied_in_silence(array):
    assert to_tensor(array).tolist() == array.tolist()


@pytest.mark.parametrize(
    "value", ["text", None, object(), np.array(["a"]), np.array([None]), [1, "b"], 2**70]
)
def test_what_is_not_numeric_is_refused_with_its_type(value):
    with pytest.raises(DataError, match=f"{type(value).__name__} cannot become a tensor"):
        to_tensor(value)


@pytest.mark.parametrize("name", ["float", "float32", torch.float32])
def test_dtypes_are_known_by_name(name):
    assert to_dtype(name) == torch.float32


@pytest.mark.parametrize("name", ["float31", "nn", "zeros", ""])
def test_an_unknown_dtype_is_refused_by_name(name):
    with pytest.raises(DataError, match=f"'{name}' is not a dtype"):
        to_dtype(name)
