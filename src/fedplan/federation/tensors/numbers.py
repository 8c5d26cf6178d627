"""Tensors of every dtype ↔ float64, in which averages are computed."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import AggregationError
from fedplan.wire import DTYPES, WireTensor

Float64s = NDArray[np.float64]

LARGEST = 2.0**927
"""No number of a model, and no weighted number of a diff, reaches this (about 1e279): sums hold no more."""


def values_of(tensor: WireTensor) -> NDArray[Any]:
    """The values in a dtype that NumPy knows: the tensor's own, without a copy, but bfloat16 as float32."""
    values: NDArray[Any] = tensor.array
    if tensor.dtype == "bfloat16":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values


def to_float64(tensor: WireTensor) -> Float64s:
    """The values as float64. All dtypes fit exactly, but for int64 beyond 2⁵³."""
    return values_of(tensor).astype(np.float64)


def from_float64(values: Float64s, dtype: str) -> WireTensor:
    """The values in a tensor's dtype: floats rounded to nearest, integers to the nearest whole number.

    A float beyond the dtype's range becomes infinite, as everywhere.

    Raises:
        AggregationError: an integer is beyond the dtype's range.
    """
    storage = DTYPES[dtype].storage
    values = np.asarray(values)  # arithmetic makes a bare number of an array without dimensions
    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            return WireTensor(_bfloat16_bits(values.astype(np.float32)), dtype)
        if storage.kind == "f":
            return WireTensor(values.astype(storage), dtype)
    rounded = np.asarray(np.rint(values))
    limits = np.iinfo(storage)
    if not ((rounded >= limits.min) & (rounded < float(limits.max) + 1)).all():
        raise AggregationError(f"a value is outside the range of {dtype}")
    return WireTensor(rounded.astype(storage), dtype)


def _bfloat16_bits(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """Round to nearest, ties to even; NaN stays NaN."""
    bits = values.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return np.asarray(np.where(np.isnan(values), 0x7FC0, rounded).astype(np.uint16))
