"""Pools that average, said with slices and sums."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fedplan.plan.variants.expansions.windows import (
    Window,
    beneath,
    framed,
    known,
    moved,
    over,
    pad,
    returned,
)

_aten = torch.ops.aten


def avg_pool2d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """An average over windows without padding, each divided by as many elements as a window has.

    Returns:
        The averages; NotImplemented where they are such already, or the extents of the pictures depend on the
        batch size.
    """
    if not known(x, 2):
        return NotImplemented
    if x.dim() == 3:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return _aten.avg_pool2d.default(x.unsqueeze(0), *options).squeeze(0)
    window = moved(x, 2, kernel_size, stride, padding, (1,), ceil_mode)
    if not any((*window.padding, *window.beyond)) and divisor_override is None:
        return NotImplemented
    return _averages(x, window, count_include_pad, divisor_override)


def avg_pool3d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Any:
    """The sum of what lies under each element of a window, divided.

    Returns:
        The averages; NotImplemented where the extents of the volumes depend on the batch size.
    """
    if not known(x, 3):
        return NotImplemented
    if x.dim() == 4:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return avg_pool3d(x.unsqueeze(0), *options).squeeze(0)
    window = moved(x, 3, kernel_size, stride, padding, (1,), ceil_mode)
    return _averages(x, window, count_include_pad, divisor_override)


def _averages(x: Tensor, window: Window, padding_counts: bool, divisor: int | None) -> Tensor:
    factor = _factor(x, window, padding_counts, divisor)
    averages = _means(framed(x, window), window)
    return averages if isinstance(factor, float) and factor == 1.0 else averages * factor


def _means(frame: Tensor, window: Window) -> Tensor:
    """The mean of a framed picture under each place of the window."""
    if len(window.size) == 2:
        made: Tensor = _aten.avg_pool2d.default(frame, window.size, window.stride)
        return made
    parts = [beneath(frame, window, tap) for tap in window.taps]
    return sum(parts[1:], start=parts[0]) / len(parts)


def avg_pool_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Tensor:
    """Each element of a window gets the same share of the gradient of its average."""
    rank = len(kernel_size)
    if x.dim() == rank + 1:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return avg_pool_backward(gradient.unsqueeze(0), x.unsqueeze(0), *options).squeeze(0)
    window = over(x, gradient, kernel_size, stride, padding, (1,))
    part = gradient * (_factor(x, window, count_include_pad, divisor_override) / math.prod(window.size))
    if window.stride != window.size:
        return returned([(tap, part) for tap in window.taps], window)
    for axis, size in enumerate(window.size):
        part = _repeated(part, 2 + axis, size)
    before = [-padding for padding in window.padding]
    after = [x - b - e for x, b, e in zip(window.picture, before, part.shape[-rank:], strict=True)]
    return pad(part, before, after)


def _repeated(x: Tensor, dim: int, times: int) -> Tensor:
    """Each element along a dimension so many times, one beside the other."""
    if times == 1:
        return x
    shape = [*x.shape[:dim], x.shape[dim] * times, *x.shape[dim + 1 :]]
    return x.reshape(-1, 1, math.prod(x.shape[dim + 1 :])).repeat(1, times, 1).reshape(shape)


def _factor(x: Tensor, window: Window, padding_counts: bool, divisor: int | None) -> Tensor | float:
    """What to multiply means over windows by, since fewer elements count or another number divides."""
    if divisor is not None:
        return math.prod(window.size) / divisor
    if not any((*window.padding, *window.beyond)) or (padding_counts and not any(window.beyond)):
        return 1.0
    ones = torch.full([1, 1, *window.picture], 1.0, dtype=x.dtype)
    if padding_counts:
        ones = pad(ones, window.padding, window.padding, 1.0)
        window = dataclasses.replace(window, picture=tuple(ones.shape[2:]), padding=(0,) * len(window.size))
    return 1 / _means(framed(ones, window), window)  # (1, 1, *places)


def adaptive_avg_pool(x: Tensor, output_size: Sequence[int]) -> Any:
    """An average over as many pieces as are asked for: equal ones are a pool, others matrix products.

    Returns:
        The averages; NotImplemented where the extents of the pictures depend on the batch size.
    """
    rank = len(output_size)
    if not known(x, rank):
        return NotImplemented
    extents = tuple(x.shape[-rank:])
    size = equal_pieces(extents, output_size)
    if size is not None:
        return (_aten.avg_pool2d if rank == 2 else _aten.avg_pool3d).default(x, size)
    for axis, places in enumerate(output_size):
        x = along(x, axis - rank, _shares(extents[axis], places))
    return x


def adaptive_avg_pool_backward(gradient: Tensor, x: Tensor, rank: int) -> Tensor:
    """The gradient of the averages goes back in equal shares."""
    extents, made = tuple(x.shape[-rank:]), tuple(gradient.shape[-rank:])
    size = equal_pieces(extents, made)
    if size is not None:
        return avg_pool_backward(gradient, x, size, size, (0,) * rank, False, True, None)
    for axis, extent in enumerate(extents):
        gradient = along(gradient, axis - rank, _shares(extent, made[axis]).t())
    return gradient


def adaptive_avg_pool1d(x: Tensor, output_size: Sequence[int]) -> Tensor:
    """One of pictures that are one element high."""
    flat: Tensor = _aten._adaptive_avg_pool2d.default(x.unsqueeze(-2), [1, *output_size])
    return flat.squeeze(-2)


def avg_pool1d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """One of pictures that are one element high."""
    moves = [1, *kernel_size], [1, *(stride or kernel_size)], [0, *padding]
    flat: Tensor = _aten.avg_pool2d.default(x.unsqueeze(-2), *moves, ceil_mode, count_include_pad)
    return flat.squeeze(-2)


def equal_pieces(extents: Sequence[int], places: Sequence[int]) -> list[int] | None:
    """The size of pieces that are equal; None when they are not."""
    if any(extent % count for extent, count in zip(extents, places, strict=True)):
        return None
    return [extent // count for extent, count in zip(extents, places, strict=True)]


def pieces(extent: int, places: int) -> list[range]:
    """Which of an axis's elements are in each of as many pieces as are asked for."""
    return [range(p * extent // places, -(-(p + 1) * extent // places)) for p in range(places)]


def _shares(extent: int, places: int) -> Tensor:
    """Which share each of an axis's elements has in each piece: (extent, places)."""
    parts = pieces(extent, places)
    return constant([[1 / len(part) if e in part else 0.0 for part in parts] for e in range(extent)])


def constant(numbers: Sequence[Any]) -> Tensor:
    """A tensor of the Plan, and not operations that make it."""
    with _disable_current_modes():
        return torch.tensor(numbers)


def along(x: Tensor, dim: int, matrix: Tensor) -> Tensor:
    """A picture times a matrix, along one of its dimensions."""
    return (x.transpose(dim, -1) @ matrix.to(x.dtype)).transpose(dim, -1)
