"""Tensors under other shapes, and made of numbers, as PyTorch's decompositions ask for them."""

from typing import Any

import torch
from torch import Tensor

from fedplan.plan.variants.expansions.windows import spread


def new_full(x: Tensor, size: list[int], fill: float, **options: Any) -> Tensor:
    """A tensor of one number."""
    options.setdefault("dtype", x.dtype)
    return torch.full(size, fill, **options)


def slice_scatter(
    x: Tensor, source: Tensor, dim: int = 0, start: int | None = None, end: int | None = None, step: int = 1
) -> Any:
    """Writes over every n-th element.

    Returns:
        The tensor written to; NotImplemented where elements lie side by side, or their number depends on the
        batch size.
    """
    extent, dim = x.shape[dim], dim % x.dim()
    if step == 1 or not isinstance(extent, int):
        return NotImplemented
    begin = range(extent)[slice(start, end, step)].start
    before, after = [begin], [extent - begin - (source.shape[dim] - 1) * step - 1]
    lines, wide = (
        source.transpose(dim, -1),
        spread(torch.full([1, source.shape[dim]], 1), [step], before, after),
    )
    placed = spread(lines, [step], before, after).transpose(dim, -1)
    mask = wide.reshape([extent if axis == dim else 1 for axis in range(x.dim())]) != 0
    return torch.where(mask, placed, x)
