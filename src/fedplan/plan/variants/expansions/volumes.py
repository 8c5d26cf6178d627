"""Pools of volumes, said with those of pictures; maxima of as many pieces as are asked for, of both."""

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from fedplan.plan.variants.expansions import pools
from fedplan.plan.variants.expansions.windows import Window, beneath, each, framed

_aten = torch.ops.aten


def avg_pool3d(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """Averages of layers of a volume are those of pictures; then the layers beneath a window are averaged."""
    if x.dim() == 4:
        options = (kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override)
        return avg_pool3d(x.unsqueeze(0), *options).squeeze(0)
    window = pools.window_of_averages(x, kernel_size, stride, padding, ceil_mode)
    frame = framed(x, window)
    flat = _aten.avg_pool2d.default(frame.flatten(1, 2), window.size[1:], window.stride[1:])
    layers = _layers(flat.unflatten(1, frame.shape[1:3]), window)
    averages = sum(layers[1:], start=layers[0]) / window.size[0]
    factor = pools.factor_of(x, window, count_include_pad, divisor_override)
    return averages if isinstance(factor, float) and factor == 1.0 else averages * factor


def max_pool3d_with_indices(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> tuple[Tensor, Tensor]:
    """Maxima of layers are those of pictures; the first element of a window that equals its maximum is it."""
    if x.dim() == 4:
        made = max_pool3d_with_indices(x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode)
        return made[0].squeeze(0), made[1].squeeze(0)
    around, apart = each(padding, 3), each(dilation, 3)
    size = tuple((k - 1) * d + 1 for k, d in zip(each(kernel_size, 3), apart, strict=True))
    reach = pools.window_of_averages(x, size, each(stride, 3, kernel_size), around, ceil_mode)
    window = Window(each(kernel_size, 3), reach.stride, around, apart, reach.picture, reach.places)
    frame = framed(x, window, pools.LOWEST)
    flat = _aten.max_pool2d_with_indices.default(
        frame.flatten(1, 2), window.size[1:], window.stride[1:], (0,), apart[1:]
    )[0]
    highest = functools.reduce(torch.maximum, _layers(flat.unflatten(1, frame.shape[1:3]), window))
    return highest, _places(frame, highest, window)


def _layers(x: Tensor, window: Window) -> list[Tensor]:
    """For each layer of a window, what lies beneath it, (batch, channels, places, …)."""
    return [
        _aten.slice.Tensor(x, 2, layer * window.dilation[0], layer * window.dilation[0] + window.span[0],
                           window.stride[0])
        for layer in range(window.size[0])
    ]  # fmt: skip


def _places(frame: Tensor, highest: Tensor, window: Window) -> Tensor:
    """Where in the flattened volume the first of the maxima lies, int64."""
    units = [math.prod(window.picture[axis + 1 :]) for axis in range(3)]
    begins = [
        [place * stride - padding for place in range(count)]
        for count, stride, padding in zip(window.places, window.stride, window.padding, strict=True)
    ]
    corner = _constant([_product(at, units) for at in itertools.product(*begins)], window.places)
    found = torch.zeros_like(highest, dtype=torch.int64)
    free = torch.ones_like(highest, dtype=torch.bool)  # places whose maximum has not been met yet
    for tap in window.taps:
        behind = _product([e * d for e, d in zip(tap, window.dilation, strict=True)], units)
        hit = (beneath(frame, window, tap) == highest) & free
        found, free = torch.where(hit, corner + behind, found), free & ~hit
    return found


def adaptive_max_pool(x: Tensor, output_size: Sequence[int]) -> tuple[Tensor, Tensor]:
    """The maxima of as many pieces as are asked for, and where they are in the flattened picture."""
    rank = len(output_size)
    extents = tuple(x.shape[-rank:])
    larger, size = _in_equal_pieces(x, output_size)
    pool: Any = {2: _aten.max_pool2d_with_indices, 3: _aten.max_pool3d_with_indices}[rank]
    highest, where = pool.default(larger, size)
    if larger is x:
        return highest, where
    chosen = [_elements(extent, pieces) for extent, pieces in zip(extents, output_size, strict=True)]
    units = [math.prod(extents[axis + 1 :]) for axis in range(rank)]
    places = [_product(at, units) for at in itertools.product(*chosen)]
    original = _constant(places, (len(places),))
    return highest, original.index_select(0, where.flatten()).reshape(where.shape)


def adaptive_max_pool2d_backward(gradient: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """Goes to the first element of each piece that is its maximum; indices are not looked at."""
    return _to_maxima(gradient, x, indices, 2)


def adaptive_max_pool3d_backward(gradient: Tensor, x: Tensor, indices: Tensor) -> Tensor:
    """Of volumes."""
    return _to_maxima(gradient, x, indices, 3)


def _to_maxima(gradient: Tensor, x: Tensor, indices: Tensor, rank: int) -> Tensor:
    extents, pieces = tuple(x.shape[-rank:]), tuple(gradient.shape[-rank:])
    larger, size = _in_equal_pieces(x, pieces)
    moves = (size, size, (0,), (1,), False)
    made = pools.max_pool_with_indices_backward(gradient, larger, *moves, indices)
    if larger is x:
        return made
    for axis, (extent, count) in enumerate(zip(extents, pieces, strict=True)):
        with _disable_current_modes():
            came_from = torch.eye(extent)[_elements(extent, count)]  # (elements, extent)
        made = pools.along(made, axis - rank, came_from)
    return made


def _in_equal_pieces(x: Tensor, pieces: Sequence[int]) -> tuple[Tensor, list[int]]:
    """The picture with the last elements of short pieces repeated, and the extents of a piece."""
    rank = len(pieces)
    extents = tuple(x.shape[-rank:])
    size = pools.equal_pieces(extents, pieces)
    if size is not None:
        return x, size
    size = []
    for axis, (extent, count) in enumerate(zip(extents, pieces, strict=True)):
        chosen = _elements(extent, count)
        x = x.index_select(axis - rank, _constant(chosen, (len(chosen),)))
        size.append(len(chosen) // count)
    return x, size


def _elements(extent: int, pieces: int) -> list[int]:
    """The elements of each piece of an axis, the last one repeated where others are longer."""
    ends = pools.ends_of_pieces(extent, pieces)
    longest = max(end - start for start, end in ends)
    return [min(start + step, end - 1) for start, end in ends for step in range(longest)]


def _product(numbers: Sequence[int], units: Sequence[int]) -> int:
    return sum(number * unit for number, unit in zip(numbers, units, strict=True))


def _constant(numbers: Sequence[int], shape: Sequence[int]) -> Tensor:
    with _disable_current_modes():  # and not operations that make it
        return torch.tensor(numbers).reshape(*shape)
