"""Pools of pictures, said with slices and sums; their gradients, of volumes too."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fedplan.plan.variants.expansions.windows import Window, beneath, each, framed, pad, returned

_aten = torch.ops.aten

LOWEST = float(-(2.0**127))
"""Less than any number that a picture holds: what lies around one whose maxima are sought."""


def max_pool_with_indices_backward(
    gradient: Tensor,
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    ceil_mode: bool,
    indices: Tensor,
) -> Tensor:
    """Goes to the first element of each window that is its maximum, as PyTorch's indices do.

    Args:
        gradient: of the maxima, (batch, channels, *places).
        x: the picture, (batch, channels, *extents).
        indices: not looked at.
    """
    rank, pool = len(kernel_size), (kernel_size, stride, padding, dilation, ceil_mode)
    if x.dim() == rank + 1:
        alone = max_pool_with_indices_backward(gradient.unsqueeze(0), x.unsqueeze(0), *pool, indices)
        return alone.squeeze(0)
    maxima: Any = {2: _aten.max_pool2d_with_indices, 3: _aten.max_pool3d_with_indices}[rank]
    highest: Tensor = maxima.default(x, *pool)[0]
    window = _window(x, gradient, kernel_size, stride, padding, dilation)
    frame = framed(x, window, LOWEST)
    parts = []
    free: Tensor | None = None  # places whose maximum has not been met yet
    for tap in window.taps:
        hit = beneath(frame, window, tap) == highest
        if free is not None:
            hit = hit & free
        free = ~hit if free is None else free & ~hit
        parts.append((tap, gradient * hit.to(gradient.dtype)))
    return returned(parts, window)


def max_pool2d_with_indices(x: Tensor, *pool: Any) -> Any:
    """The maxima of a picture without a batch.

    Returns:
        The maxima and where they are; NotImplemented for a batch of pictures.
    """
    if x.dim() != 3:
        return NotImplemented
    return tuple(made.squeeze(0) for made in _aten.max_pool2d_with_indices.default(x.unsqueeze(0), *pool))


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
    rank = len(kernel_size)
    if not _known(x, rank):
        return NotImplemented
    if x.dim() == rank + 1:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return _aten.avg_pool2d.default(x.unsqueeze(0), *options).squeeze(0)
    window = window_of_averages(x, kernel_size, stride, padding, ceil_mode)
    if not any((*window.padding, *window.beyond)) and divisor_override is None:
        return NotImplemented
    averages = _aten.avg_pool2d.default(framed(x, window), window.size, window.stride)
    factor = factor_of(x, window, count_include_pad, divisor_override)
    return averages if isinstance(factor, float) and factor == 1.0 else averages * factor


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
    window = _window(x, gradient, kernel_size, stride, padding, (1,))
    part = gradient * (factor_of(x, window, count_include_pad, divisor_override) / math.prod(window.size))
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


def factor_of(x: Tensor, window: Window, padding_counts: bool, divisor: int | None) -> Tensor | float:
    """What to multiply means over windows by, since fewer elements count or another number divides."""
    if divisor is not None:
        return math.prod(window.size) / divisor
    if not any((*window.padding, *window.beyond)) or (padding_counts and not any(window.beyond)):
        return 1.0
    ones = torch.full([1, 1, *window.picture], 1.0, dtype=x.dtype)
    if padding_counts:
        ones = pad(ones, window.padding, window.padding, 1.0)
        window = dataclasses.replace(window, picture=tuple(ones.shape[2:]), padding=(0,) * len(window.size))
    pool: Any = {2: _aten.avg_pool2d, 3: _aten.avg_pool3d}[len(window.size)]
    share: Tensor = pool.default(framed(ones, window), window.size, window.stride)
    return 1 / share  # (1, 1, *places)


def adaptive_avg_pool(x: Tensor, output_size: Sequence[int]) -> Any:
    """An average over as many pieces as are asked for: equal ones are a pool, others matrix products.

    Returns:
        The averages; NotImplemented where the extents of the pictures depend on the batch size.
    """
    rank = len(output_size)
    if not _known(x, rank):
        return NotImplemented
    extents = tuple(x.shape[-rank:])
    size = equal_pieces(extents, output_size)
    if size is not None:
        pool: Any = {2: _aten.avg_pool2d, 3: _aten.avg_pool3d}[rank]
        return pool.default(x, size)
    for axis, places in enumerate(output_size):
        x = along(x, axis - rank, _pieces(extents[axis], places))
    return x


def adaptive_avg_pool2d_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """The gradient of the averages goes back in equal shares."""
    return _returned_shares(gradient, x, 2)


def adaptive_avg_pool3d_backward(gradient: Tensor, x: Tensor) -> Tensor:
    """Of volumes."""
    return _returned_shares(gradient, x, 3)


def _returned_shares(gradient: Tensor, x: Tensor, rank: int) -> Tensor:
    extents, made = tuple(x.shape[-rank:]), tuple(gradient.shape[-rank:])
    size = equal_pieces(extents, made)
    if size is not None:
        return avg_pool_backward(gradient, x, size, size, (0,), False, True, None)
    for axis, extent in enumerate(extents):
        gradient = along(gradient, axis - rank, _pieces(extent, made[axis]).t())
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
    """The extents of a piece, when all are equal."""
    if any(extent % count for extent, count in zip(extents, places, strict=True)):
        return None
    return [extent // count for extent, count in zip(extents, places, strict=True)]


def ends_of_pieces(extent: int, places: int) -> list[tuple[int, int]]:
    """Where each piece of an axis starts and ends."""
    return [(place * extent // places, -(-(place + 1) * extent // places)) for place in range(places)]


def _pieces(extent: int, places: int) -> Tensor:
    """Which share each of an axis's elements has in each piece: (extent, places)."""
    ends = ends_of_pieces(extent, places)
    shares = [[1 / (end - start) if start <= e < end else 0.0 for start, end in ends] for e in range(extent)]
    with _disable_current_modes():  # a constant, and not operations that make it
        return torch.tensor(shares)


def along(x: Tensor, dim: int, matrix: Tensor) -> Tensor:
    """A picture times a matrix, along one of its dimensions."""
    return (x.transpose(dim, -1) @ matrix.to(x.dtype)).transpose(dim, -1)


def _known(x: Tensor, rank: int) -> bool:
    return all(isinstance(extent, int) for extent in x.shape[-rank:])


def _window(
    x: Tensor,
    made: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> Window:
    rank = len(kernel_size)
    return Window(
        each(kernel_size, rank),
        each(stride, rank, kernel_size),
        each(padding, rank),
        each(dilation, rank),
        tuple(x.shape[-rank:]),
        tuple(made.shape[-rank:]),
    )


def window_of_averages(
    x: Tensor, kernel_size: Sequence[int], stride: Sequence[int], padding: Sequence[int], rounded_up: bool
) -> Window:
    """How the window of a pool moves; `rounded_up`: also to where only a part of it is in the picture."""
    rank = len(kernel_size)
    size, steps, around = each(kernel_size, rank), each(stride, rank, kernel_size), each(padding, rank)
    made = []
    for extent, length, step, before in zip(x.shape[-rank:], size, steps, around, strict=True):
        free = extent + 2 * before - length
        places = (-(-free // step) if rounded_up else free // step) + 1
        if rounded_up and (places - 1) * step >= extent + before:
            places -= 1  # a window begins in the picture or before it
        made.append(places)
    return Window(size, steps, around, (1,) * rank, tuple(x.shape[-rank:]), tuple(made))
