"""The values of tfjs: torch tensors of the three dtypes that it has, and plain numbers."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

Number = int | float | bool
Value = Tensor | Number
Axis = int | Sequence[int] | None

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "int32": torch.int32, "bool": torch.bool}
"""tfjs's dtypes."""

_ORDER = (torch.bool, torch.int32, torch.float32)
"""Of two dtypes the later one is that of the result."""


def as_tensor(value: Value | Sequence[Any]) -> Tensor:
    """A value as tfjs takes it where it needs a tensor: numbers become float32."""
    if isinstance(value, Tensor):
        if value.dtype not in _ORDER:
            raise TypeError(f"tfjs has no tensors of the dtype {value.dtype}")
        return value
    if isinstance(value, bool):
        return torch.tensor(value)
    return torch.tensor(value, dtype=torch.float32)


def matched(left: Value, right: Value) -> tuple[Tensor, Tensor]:
    """Two values as tensors of one dtype."""
    a, b = as_tensor(left), as_tensor(right)
    dtype = max(a.dtype, b.dtype, key=_ORDER.index)
    return a.to(dtype), b.to(dtype)


def truth(value: Value) -> Tensor:
    """A tensor of truth values; tfjs takes no other in its place."""
    tensor = as_tensor(value)
    if tensor.dtype != torch.bool:
        raise TypeError("tfjs needs truth values here; cast it first")
    return tensor


def axes_of(axis: Axis, rank: int) -> list[int]:
    """Axes of an argument, counted from the front; all when none are given."""
    if axis is None:
        return list(range(rank))
    return [a % rank for a in ([axis] if isinstance(axis, int) else axis)]


def of_rank(value: Value, most: int) -> Tensor:
    """A tensor of as many dimensions at most: WebGL has no program for more."""
    tensor = as_tensor(value)
    if tensor.dim() > most:
        raise ValueError(f"tfjs does this in WebGL for {most} dimensions at most, not {tensor.dim()}")
    return tensor
