"""Pools that take the greatest element, said with slices and comparisons."""

import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.plan.variants.expansions.pools import along, constant, pieces
from fedplan.plan.variants.expansions.windows import (
    Sizes,
    Window,
    beneath,
    framed,
    known,
    moved,
    over,
    returned,
)

_aten = torch.ops.aten

LOWEST = float(-(2.0**127))
"""Less than any number that a picture holds: what lies around one whose maxima are sought."""


def max_pool2d_with_indices(x: Tensor, *pool: Any) -> Any:
    """The maxima of a picture without a batch.

    Returns:
        The maxima and where they are; NotImplemented for a batch of pictures.
    """
    if x.dim() != 3:
        return NotImplemented
    return tuple(made.squeeze(0) for made in _aten.max_pool2d_with_indices.default(x.unsqueeze(0), *pool))


def max_pool3d_with_indices(
    x: Tensor,
    kernel_size: Sequence[int],
    stride: Sequence[int] = (),
    padding: Sequence[int] = (0,),
    dilation: Sequence[int] = (1,),
    ceil_mode: bool = False,
) -> Any:
    """The maxima of volumes, and where the first of them lies in the flattened volume.

    Returns:
        Both, (batch, channels, *places); NotImplemented where the extents of the volumes depend on the batch
        size.
    """
    if not known(x, 3):
        return NotImplemented
    if x.dim() == 4:
        alone = max_pool3d_with_indices(x.unsqueeze(0), kernel_size, stride, padding, dilation, ceil_mode)
        return tuple(made.squeeze(0) for made in alone)
    window = moved(x, 3, kernel_size, stride, padding, dilation, ceil_mode)
    frame = framed(x, window, LOWEST)
    highest = functools.reduce(torch.maximum, (beneath(frame, window, tap) for tap in window.taps))
    units = [math.prod(window.picture[axis + 1 :]) for axis in range(3)]
    corners = _corners(window, units)
    found = [
        (corners + sum(e * d * u for e, d, u in zip(tap, window.dilation, units, strict=True))) * hit
        for tap, hit in _first(frame, window, highest)
    ]
    return highest, sum(found[1:], start=found[0])


def _corners(window: Window, units: Sequence[int]) -> Tensor:
    """Where the window's corner lies in the flattened volume, at each place."""
    lines = [
        [(place * stride - padding) * unit for place in range(places)]
        for places, stride, padding, unit in zip(
            window.places, window.stride, window.padding, units, strict=True
        )
    ]
    deep, high, wide = lines
    return constant([[[d + h + w for w in wide] for h in high] for d in deep])


def _first(frame: Tensor, window: Window, highest: Tensor) -> Iterator[tuple[Sizes, Tensor]]:
    """For each element of the window, where it is the first that is the maximum."""
    free: Tensor | None = None  # places whose maximum has not been met yet
    for tap in window.taps:
        hit = beneath(frame, window, tap) == highest
        if free is not None:
            hit = hit & free
        free = ~hit if free is None else free & ~hit
        yield tap, hit


def max_pool_backward(
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
        x: the picture or volume, (batch, channels, *extents).
        indices: not looked at.
    """
    pool = (kernel_size, stride, padding, dilation, ceil_mode)
    rank = len(kernel_size)
    if x.dim() == rank + 1:
        return max_pool_backward(gradient.unsqueeze(0), x.unsqueeze(0), *pool, indices).squeeze(0)
    highest: Tensor = _pool(rank)(x, *pool)[0]
    window = over(x, gradient, kernel_size, stride, padding, dilation)
    hits = _first(framed(x, window, LOWEST), window, highest)
    return returned([(tap, gradient * hit.to(gradient.dtype)) for tap, hit in hits], window)


def _pool(rank: int) -> Any:
    return _aten.max_pool2d_with_indices.default if rank == 2 else _aten.max_pool3d_with_indices.default


def adaptive_max_pool(x: Tensor, output_size: Sequence[int]) -> Any:
    """The maxima of as many pieces as are asked for, and where each lies in the flattened picture.

    Returns:
        Both; NotImplemented where the extents of the pictures depend on the batch size.
    """
    rank = len(output_size)
    if not known(x, rank):
        return NotImplemented
    extents = tuple(x.shape[-rank:])
    chosen = _chosen(extents, output_size)
    size = [len(each) // places for each, places in zip(chosen, output_size, strict=True)]
    highest, indices = _pool(rank)(_taken(x, chosen), size)
    places = constant(range(math.prod(extents))).reshape(extents)
    return highest, _taken(places, chosen).reshape(-1)[indices]


def adaptive_max_pool_backward(gradient: Tensor, x: Tensor, indices: Tensor, rank: int) -> Tensor:
    """Goes to the first element of each piece that is its maximum.

    Args:
        gradient: of the maxima.
        x: the picture or volume.
        indices: not looked at.
        rank: how many extents it has.
    """
    output_size, extents = tuple(gradient.shape[-rank:]), tuple(x.shape[-rank:])
    chosen = _chosen(extents, output_size)
    size = [len(each) // places for each, places in zip(chosen, output_size, strict=True)]
    pool = (size, size, (0,) * rank, (1,) * rank, False)
    made = max_pool_backward(gradient, _taken(x, chosen), *pool, indices)
    for axis, (extent, each) in enumerate(zip(extents, chosen, strict=True)):
        if each != [*range(extent)]:  # each element gets what all its copies are owed
            made = along(made, axis - rank, constant([[float(e == c) for e in range(extent)] for c in each]))
    return made


def _chosen(extents: Sequence[int], places: Sequence[int]) -> list[list[int]]:
    """For each axis its elements, piece by piece, the last of a piece again until all are equally long."""
    made = []
    for extent, count in zip(extents, places, strict=True):
        parts = pieces(extent, count)
        longest = max(map(len, parts))
        made.append([part[min(i, len(part) - 1)] for part in parts for i in range(longest)])
    return made


def _taken(x: Tensor, chosen: Sequence[Sequence[int]]) -> Tensor:
    """The elements with these numbers along each of the last axes."""
    for axis, each in enumerate(chosen):
        dim = x.dim() - len(chosen) + axis
        if list(each) != [*range(x.shape[dim])]:
            x = x.index_select(dim, constant(each))
    return x
