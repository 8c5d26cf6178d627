import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import AggregationError
from fedplan.federation import AVERAGED_DTYPES
from fedplan.federation.tensors.numbers import from_float64, to_float64
from fedplan.plan import from_torch


@pytest.mark.parametrize("dtype", AVERAGED_DTYPES)
def test_every_averaged_dtype_comes_back_as_it_was(dtype):
    values = np.array([[-3.0, 0.0], [1.0, 100.0]])
    tensor = from_float64(values, dtype)
    assert tensor.dtype == dtype
    assert np.array_equal(to_float64(tensor), values)


@pytest.mark.parametrize("dtype", AVERAGED_DTYPES)
def test_a_tensor_without_dimensions_stays_one(dtype):
    tensor = from_float64(np.float64(2.0), dtype)
    assert isinstance(tensor.array, np.ndarray)
    assert tensor.shape == ()


def test_integers_are_rounded_to_the_nearest_whole_number():
    assert from_float64(np.array([-1.6, -0.4, 0.4, 1.6]), "int32").array.tolist() == [-2, 0, 0, 2]


@pytest.mark.parametrize("value", [128.0, -129.0, np.inf, np.nan])
def test_an_integer_out_of_range_is_refused(value):
    with pytest.raises(AggregationError, match="outside the range of int8"):
        from_float64(np.array([value]), "int8")


def test_a_float_out_of_range_becomes_infinite():
    assert np.isinf(from_float64(np.array([1e300]), "float32").array).all()


@given(st.floats(width=32, allow_nan=False))
def test_bfloat16_is_rounded_as_torch_rounds_it(value):
    ours = from_float64(np.array([value]), "bfloat16")
    theirs = from_torch(torch.tensor([value], dtype=torch.float32).to(torch.bfloat16))
    assert ours.array.tolist() == theirs.array.tolist()


def test_bfloat16_keeps_nan():
    assert not from_float64(np.array([np.nan]), "bfloat16").isfinite()
