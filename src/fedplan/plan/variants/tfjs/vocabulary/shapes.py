"""Functions for the same elements under another shape, parts of tensors, and tensors made of numbers."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from fedplan.plan.variants.tfjs.vocabulary.values import (
    DTYPES,
    Axis,
    Number,
    Value,
    as_tensor,
    axes_of,
    of_rank,
)


def transpose(value: Value, perm: Sequence[int] | None = None) -> Tensor:
    """Its axes in another order, by default the opposite one."""
    tensor = of_rank(value, 6)
    return tensor.permute(tuple(reversed(range(tensor.dim()))) if perm is None else tuple(perm))


def part(value: Value, begin: int | Sequence[int], size: int | Sequence[int] | None = None) -> Tensor:
    """What begins somewhere along each axis and has a size, -1 for the rest."""
    tensor = of_rank(value, 6)
    rank = tensor.dim()
    begins = [*([begin] if isinstance(begin, int) else begin)]
    begins += [0] * (rank - len(begins))
    sizes = [-1] * rank if size is None else [*([size] if isinstance(size, int) else size)]
    sizes += [-1] * (rank - len(sizes))
    for axis, (start, count) in enumerate(zip(begins, sizes, strict=True)):
        length = tensor.shape[axis] - start if count < 0 else count
        if start < 0 or start + length > tensor.shape[axis]:
            raise ValueError(f"begin {start} and size {count} leave the axis {axis} of {tensor.shape[axis]}")
        tensor = tensor.narrow(axis, start, length)
    return tensor


def strided_part(
    value: Value,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    begin_mask: int = 0,
    end_mask: int = 0,
) -> Tensor:
    """Every n-th element from a beginning to an end, which may be counted from the end, along each axis."""
    tensor = of_rank(value, 4)
    for axis, stride in enumerate(strides):
        extent = tensor.shape[axis]
        if stride < 1:
            raise ValueError("only forward steps are modelled here")
        first = 0 if begin_mask >> axis & 1 else _from_front(begin[axis], extent)
        last = extent if end_mask >> axis & 1 else _from_front(end[axis], extent)
        if first >= extent > 0:
            raise ValueError("tfjs begins with the last element where it should begin behind it")
        tensor = tensor[(slice(None),) * axis + (slice(first, last, stride),)]
    return tensor


def _from_front(place: int, extent: int) -> int:
    return max(min(place + extent if place < 0 else place, extent), 0)


def pad(value: Value, paddings: Sequence[Sequence[int]], filler: float = 0) -> Tensor:
    """More elements before and behind each axis, of a finite number: WebGL has no word for infinity."""
    tensor, flat = of_rank(value, 4), [number for pair in reversed(list(paddings)) for number in pair]
    if min(flat, default=0) < 0 or not math.isfinite(filler):
        raise ValueError(f"a padding {paddings} of {filler}")
    return F.pad(tensor, flat, value=filler)


def concat(first: Tensor, other: Tensor, axis: int = 0) -> Tensor:
    """One behind the other; of one dtype."""
    if first.dtype != other.dtype:
        raise TypeError(f"tfjs joins tensors of one dtype, not {first.dtype} and {other.dtype}")
    return torch.cat([first, other], axis)


def squeeze(value: Value, axis: Sequence[int] | None = None) -> Tensor:
    """Without axes of one element."""
    tensor = as_tensor(value)
    axes = [i for i, extent in enumerate(tensor.shape) if extent == 1] if axis is None else list(axis)
    if any(tensor.shape[i] != 1 for i in axes):
        raise ValueError(f"axes {axes} of the shape {tuple(tensor.shape)} have more elements than one")
    return tensor.squeeze(tuple(axes))


def expand_dims(value: Value, axis: int = 0) -> Tensor:
    """With one more axis."""
    return as_tensor(value).unsqueeze(axis)


def tile(value: Value, times: Sequence[int]) -> Tensor:
    """Repeated along each axis."""
    tensor = of_rank(value, 5)
    if tensor.dim() != len(times):
        raise ValueError(f"{len(times)} numbers of repetitions for {tensor.dim()} dimensions")
    return tensor.tile(tuple(times))


def reverse(value: Value, axis: Axis = None) -> Tensor:
    """Backwards along some axes."""
    tensor = of_rank(value, 4)
    return tensor.flip(axes_of(axis, tensor.dim()))


def fill(shape: Sequence[int], value: Number, dtype: str = "float32") -> Tensor:
    """A tensor of one number."""
    return torch.full(tuple(shape), value, dtype=DTYPES[dtype])


def scalar(value: Number, dtype: str | None = None) -> Tensor:
    """A tensor of no dimensions."""
    return as_tensor(value) if dtype is None else torch.tensor(value, dtype=DTYPES[dtype])


def numbers(start: float, stop: float, step: float = 1, dtype: str = "float32") -> Tensor:
    """Numbers one step apart, the end not included."""
    return torch.arange(start, stop, step).to(DTYPES[dtype])
