"""Tensors as JSON, as tensors.mjs reads and writes them."""

import base64
from typing import Any

import numpy as np

DTYPES = {"float32": np.float32, "int32": np.int32, "bool": np.bool_}
"""What tfjs-core has of numbers."""


def to_json(array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """An array for JavaScript, which has no 64-bit integers: int64 goes as int32."""
    array = array.astype(np.int32) if array.dtype == np.int64 else array
    dtype = next(name for name, kind in DTYPES.items() if array.dtype == kind)
    values = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"shape": list(array.shape), "dtype": dtype, "values": values}


def from_json(tensor: dict[str, Any]) -> np.ndarray[Any, Any]:
    """An array from JavaScript."""
    values = base64.b64decode(tensor["values"])
    return np.frombuffer(values, DTYPES[tensor["dtype"]]).reshape(tensor["shape"])
