"""What users hold (tensors, NumPy arrays, numbers) as torch tensors."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedplan.errors import DataError


def to_tensor(value: Any) -> Tensor:
    """A tensor of these values.

    Args:
        value: a tensor (returned as it is), a NumPy array or scalar (keeps its dtype; memory is shared when
            torch can share it), a number, or nested lists of numbers (int64, torch's default float, or bool).

    Raises:
        DataError: `value` is none of these.
    """
    if isinstance(value, Tensor):
        return value
    try:
        if isinstance(value, np.ndarray | np.generic):
            return torch.from_numpy(_as_torch_takes_it(np.asarray(value)))
        return torch.tensor(value)
    except (TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"a value of type {type(value).__name__} cannot become a tensor: {reason}") from None


def to_dtype(dtype: torch.dtype | str) -> torch.dtype:
    """The torch dtype of that name: ``"float32"``, ``"int64"`` …

    Raises:
        DataError: torch has no dtype of that name.
    """
    found = getattr(torch, dtype, None) if isinstance(dtype, str) else dtype
    if not isinstance(found, torch.dtype):
        raise DataError(f"'{dtype}' is not a dtype of torch; write for example 'float32' or 'int64'")
    return found


def describe(tensor: Tensor) -> str:
    """Shape and dtype in words, for error messages: ``shape [2, 3] and dtype float32``."""
    return f"shape {list(tensor.shape)} and dtype {str(tensor.dtype).removeprefix('torch.')}"


def to_tensors(values: Sequence[Any]) -> list[Tensor]:
    """`to_tensor` of each."""
    return [to_tensor(value) for value in values]


def _as_torch_takes_it(array: NDArray[Any]) -> NDArray[Any]:
    """The array itself, or a copy where torch cannot use its memory."""
    usable = array.flags.writeable and array.dtype.isnative and min(array.strides, default=0) >= 0
    return array if usable else array.astype(array.dtype.newbyteorder("="), order="C")
