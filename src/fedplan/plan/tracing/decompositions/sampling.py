"""Pictures, series and volumes of another size, and the places at which they are looked at."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.nn import functional as F

aten: Any = torch.ops.aten


def _resized(name: str) -> Callable[..., torch.Tensor]:
    """An interpolation to a size or by factors, as one to a size."""

    def call(value: torch.Tensor, size: Sequence[int] | None, *rest: Any) -> torch.Tensor:
        *settings, factors = rest
        if size is None:
            size = [int(extent * factor) for extent, factor in zip(value.shape[2:], factors, strict=True)]
        given = [None] * len(size) if factors is None else factors
        made: torch.Tensor = getattr(aten, name).default(value, size, *settings, *given)
        return made

    return call


_RESIZED = (
    "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa", "_upsample_nearest_exact1d",
    "_upsample_nearest_exact2d", "_upsample_nearest_exact3d", "upsample_bicubic2d", "upsample_bilinear2d",
    "upsample_linear1d", "upsample_nearest1d", "upsample_nearest2d", "upsample_nearest3d",
    "upsample_trilinear3d",
)  # fmt: skip


def _affine_grid(turn: torch.Tensor, size: Sequence[int], align_corners: bool) -> torch.Tensor:
    """Where each element of a picture or volume comes from, (rows, extents …, rank)."""
    *extents, last = size[2:]
    axes = [_places(extent, align_corners, turn.dtype) for extent in (*extents, last)]
    grids = torch.meshgrid(*axes, indexing="ij")
    places = torch.stack([*reversed(grids), torch.ones_like(grids[0])], -1)  # (extents …, rank + 1)
    spread = places.reshape(-1, len(axes) + 1).expand(size[0], -1, -1)
    return torch.bmm(spread, turn.mT).reshape(size[0], *size[2:], len(axes))


def _places(count: int, align_corners: bool, dtype: torch.dtype) -> torch.Tensor:
    if count <= 1:
        return torch.zeros(count, dtype=dtype)
    places = torch.linspace(-1, 1, count, dtype=dtype)
    return places if align_corners else places * (count - 1) / count


def _fractional_pool(
    value: torch.Tensor, kernel: Sequence[int], counts: Sequence[int], draws: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """The largest elements of windows whose places are drawn, and where they are: (rows, channels, counts …).

    Args:
        value: (rows, channels, extents …), or without rows.
        kernel: extents of a window.
        counts: how many windows there are along each extent.
        draws: numbers from 0 to 1, (rows, channels, rank); of pictures the last extent's come first.
    """
    rank = len(counts)
    for extent, size, count in zip(value.shape[-rank:], kernel, counts, strict=True):
        if size + count - 1 > extent:
            raise ValueError(f"{count} windows of {size} do not fit into an extent of {extent}")
    lead, extents = value.shape[:-rank], value.shape[-rank:]
    drawn = (draws.flip(-1) if rank == 2 else draws).reshape(*lead, rank)
    flat = torch.zeros([1] * (2 * rank), dtype=torch.int64)  # (counts …, kernel …)
    for axis, (extent, size, count) in enumerate(zip(extents, kernel, counts, strict=True)):
        first = _window_places(drawn[..., axis], extent - size, count)
        shape = [1] * (2 * rank)
        shape[axis], shape[rank + axis] = count, size
        places = (first.unsqueeze(-1) + torch.arange(size)).reshape(*lead, *shape)
        flat = flat * extent + places
    flat = flat.reshape(*lead, *counts, math.prod(kernel))
    windows = value.flatten(-rank).gather(-1, flat.flatten(-1 - rank)).reshape(flat.shape)
    largest, chosen = windows.max(-1)
    return largest, flat.gather(-1, chosen.unsqueeze(-1)).squeeze(-1)


def _window_places(drawn: torch.Tensor, room: int, count: int) -> torch.Tensor:
    """Where windows begin, (rows, channels, count): steps of one length, from a drawn fraction of it."""
    if count == 1:
        return torch.full_like(drawn, room, dtype=torch.int64).unsqueeze(-1)
    step = torch.tensor(room, dtype=drawn.dtype) / (count - 1)
    start = drawn.unsqueeze(-1)
    places = ((torch.arange(count) + start) * step).to(torch.int64) - (start * step).to(torch.int64)
    return torch.where(torch.arange(count) == count - 1, room, places)


@functools.wraps(F.affine_grid)
def affine_grid(theta: torch.Tensor, size: Sequence[int], align_corners: bool | None = None) -> torch.Tensor:
    """Without a look for the smallest extent, which the batch could be."""
    return torch.affine_grid_generator(theta, list(size), bool(align_corners))


@functools.wraps(torch.triu_indices)
def triu_indices(row: int, col: int, offset: int = 0, **options: Any) -> torch.Tensor:
    """Also of as many rows as the batch has, above the diagonal."""
    if all(isinstance(side, int) for side in (row, col)) or offset < 0:
        return torch.triu_indices(row, col, offset, **options)
    sides = row - offset  # each row has one place fewer than the one before
    first, behind = _stairs(sides)
    return torch.stack([first, first + behind + offset]).to(options.get("dtype", torch.int64))


@functools.wraps(torch.tril_indices)
def tril_indices(row: int, col: int, offset: int = 0, **options: Any) -> torch.Tensor:
    """Also of as many rows as the batch has, below the diagonal."""
    if all(isinstance(side, int) for side in (row, col)) or offset > 0:
        return torch.tril_indices(row, col, offset, **options)
    sides = row + offset
    last, behind = _stairs(sides)  # the same stairs, counted from their end
    rows, columns = sides - 1 - last.flip(0), sides - 1 - (last + behind).flip(0)
    return torch.stack([rows - offset, columns]).to(options.get("dtype", torch.int64))


def _stairs(sides: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Of rows with as many places as there are rows, then one fewer in each: row and place in it."""
    number = torch.arange(sides * (sides + 1) // 2)
    wide = 2 * sides + 1
    root = (wide * wide - 8 * number).to(torch.float64).sqrt()
    row = ((wide - root) / 2).floor().to(torch.int64)
    row = row - (_start(row, sides) > number).to(torch.int64)  # where the root was rounded
    row = row + (_start(row + 1, sides) <= number).to(torch.int64)
    return row, number - _start(row, sides)


def _start(row: torch.Tensor, sides: Any) -> torch.Tensor:
    """The number of the first place of a row."""
    first: torch.Tensor = row * (2 * sides - row + 1) // 2
    return first


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.affine_grid: affine_grid,
    torch.tril_indices: tril_indices,
    torch.triu_indices: triu_indices,
}
"""Functions of PyTorch that take a fixed size where a Plan has any."""

BEFORE: Mapping[Any, Callable[..., Any]] = {
    aten.affine_grid_generator.default: _affine_grid,
    aten.fractional_max_pool2d.default: _fractional_pool,
    aten.fractional_max_pool3d.default: _fractional_pool,
    **{getattr(aten, name).vec: _resized(name) for name in _RESIZED},
}
"""For what autograd has not looked at."""
