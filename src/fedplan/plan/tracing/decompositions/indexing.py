"""Operations that choose elements by numbers."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

aten = torch.ops.aten


def _diagonal_scatter(
    value: torch.Tensor, source: torch.Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1
) -> torch.Tensor:
    """The value with the source on a diagonal."""
    turned = value.movedim((dim1, dim2), (0, 1))  # (rows, columns, others …)
    along = torch.arange(source.shape[-1])
    rows, columns = along + max(-offset, 0), along + max(offset, 0)
    written: torch.Tensor = aten.index_put(turned, [rows, columns], source.movedim(-1, 0))
    return written.movedim((0, 1), (dim1, dim2)).contiguous()  # as PyTorch's lies in memory, for views of it


def _masked_scatter(value: torch.Tensor, mask: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
    """The value with the elements under the mask from the source, in order."""
    mask, value = torch.broadcast_tensors(mask, value)  # type: ignore[no-untyped-call]
    order = mask.reshape(-1).cumsum(0) - 1
    taken = source.reshape(-1)[order.clamp(min=0)].reshape(value.shape)
    return torch.where(mask, taken, value)


def _masked_scatter_backward(gradient: torch.Tensor, mask: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """What of the gradient belongs to each element of the source."""
    mask, gradient = torch.broadcast_tensors(mask, gradient)  # type: ignore[no-untyped-call]
    order = (mask.reshape(-1).cumsum(0) - 1).clamp(min=0)
    under = torch.where(mask, gradient, 0.0).reshape(-1)
    return torch.zeros(math.prod(size), dtype=gradient.dtype).scatter_add(0, order, under).reshape(size)


def _strided(
    value: torch.Tensor, size: Sequence[int], stride: Sequence[int], offset: int | None = None
) -> Any:
    """Elements that lie side by side, in order, under another shape; NotImplemented for other uses."""
    step = 1
    for extent, given in zip(reversed(size), reversed(stride), strict=True):
        if given != step:
            return NotImplemented
        step = step * extent
    return value.reshape(size) if value.is_contiguous() and not offset else NotImplemented


def _take(value: torch.Tensor, index: torch.Tensor) -> Any:
    return aten.index(value.reshape(-1), [index])


def _put(
    value: torch.Tensor, index: torch.Tensor, source: torch.Tensor, accumulate: bool = False
) -> torch.Tensor:
    written: torch.Tensor = aten.index_put(
        value.reshape(-1), [index.reshape(-1)], source.reshape(-1), accumulate
    )
    return written.reshape(value.shape)


def _index_reduce(
    value: torch.Tensor,
    dim: int,
    index: torch.Tensor,
    source: torch.Tensor,
    reduce: str,
    *,
    include_self: bool = True,
) -> torch.Tensor:
    if value.dim() == 0:
        flat = (value.reshape(1), 0, index.reshape(1), source.reshape(1), reduce)
        return _index_reduce(*flat, include_self=include_self).reshape(())
    shape = [1] * source.dim()
    shape[dim] = -1
    spread = index.reshape(shape).expand_as(source)
    return value.scatter_reduce(dim, spread, source, reduce, include_self=include_self)


def _unfold(value: torch.Tensor, dim: int, size: int, step: int) -> torch.Tensor:
    """Windows of a size at every step along a dimension; the place in the window is the last dimension."""
    if value.dim() == 0:
        return value.reshape(1)[:size]
    dim = dim % value.dim()
    count = (value.shape[dim] - size) // step + 1
    places = torch.arange(count).unsqueeze(1) * step + torch.arange(size)  # (count, size)
    chosen = value.index_select(dim, places.reshape(-1))
    shape = [*value.shape[:dim], count, size, *value.shape[dim + 1 :]]
    return chosen.reshape(shape).movedim(dim + 1, -1)


def _repeated_places(repeats: torch.Tensor, *, output_size: int | None = None) -> Any:
    """The place of each element, as often as it is repeated, when it is known how many there will be."""
    if output_size is None:
        return NotImplemented
    return torch.searchsorted(repeats.cumsum(0), torch.arange(output_size), right=True)


def _replication_pad_backward(
    gradient: torch.Tensor, value: torch.Tensor, padding: Sequence[int]
) -> torch.Tensor:
    """Each edge gets the gradients of its repetitions, too."""
    for axis in range(len(padding) // 2):
        before, after = padding[2 * axis : 2 * axis + 2]
        length = value.shape[-1 - axis]
        places = torch.arange(-before, length + after).clamp(0, length - 1)
        turned = gradient.movedim(-1 - axis, 0)
        if before < 0 or after < 0 or length == 1:
            kept = torch.zeros(length, *turned.shape[1:], dtype=turned.dtype)
            turned = kept.index_add(0, places, turned)
        else:
            first, last = before + 1, turned.shape[0] - after - 1
            edges = turned[:first].sum(0, keepdim=True), turned[last:].sum(0, keepdim=True)
            turned = torch.cat([edges[0], turned[first:last], edges[1]])
        gradient = turned.movedim(0, -1 - axis)
    return gradient.contiguous()  # as the kernel leaves it, for views of it that were recorded


def _embedding_renorm(
    weight: torch.Tensor, indices: torch.Tensor, max_norm: float, norm_type: float
) -> torch.Tensor:
    """The rows that are looked up, shortened to a norm."""
    named = torch.zeros(weight.shape[0], dtype=torch.bool).index_fill(0, indices.reshape(-1), True)
    norm = torch.linalg.vector_norm(weight, norm_type, dim=1)
    scale = torch.where(named & (norm > max_norm), max_norm / (norm + 1e-7), 1.0)
    return weight * scale.unsqueeze(1)


def _embedding_dense_backward(
    gradient: torch.Tensor, indices: torch.Tensor, rows: int, padding_idx: int, scale_by_frequency: bool
) -> Any:
    """With gradients divided by how often a row was looked up."""
    if not scale_by_frequency:
        return NotImplemented  # one row of the op table
    flat = indices.reshape(-1)
    counts = torch.zeros(rows, dtype=gradient.dtype).scatter_add(
        0, flat, torch.ones_like(flat, dtype=gradient.dtype)
    )
    scaled = gradient / aten.index(counts, [indices]).unsqueeze(-1)
    return aten.embedding_dense_backward(scaled, indices, rows, padding_idx, False)


AFTER: Mapping[Any, Callable[..., Any]] = {
    aten.as_strided.default: _strided,
    aten.diagonal_scatter.default: _diagonal_scatter,
    aten.embedding_dense_backward.default: _embedding_dense_backward,
    aten.embedding_renorm.default: _embedding_renorm,
    aten.index_reduce.default: _index_reduce,
    aten.masked_scatter.default: _masked_scatter,
    aten.masked_scatter_backward.default: _masked_scatter_backward,
    aten.put.default: _put,
    aten.repeat_interleave.Tensor: _repeated_places,
    aten.replication_pad1d_backward.default: _replication_pad_backward,
    aten.replication_pad2d_backward.default: _replication_pad_backward,
    aten.replication_pad3d_backward.default: _replication_pad_backward,
    aten.take.default: _take,
    aten.unfold.default: _unfold,
}
"""For what autograd has looked at."""


@functools.wraps(torch.Tensor.__getitem__)
def getitem(value: torch.Tensor, index: Any) -> Any:
    """With tensors of one number among the indices, which Python would read."""
    parts = index if isinstance(index, tuple) else (index,)
    numbers = [place for place, part in enumerate(parts) if _is_number(part)]
    if not numbers or not all(_is_number(part) or isinstance(part, int | slice) for part in parts):
        return value[index]
    whole = value[tuple(slice(None) if place in numbers else part for place, part in enumerate(parts))]
    for place in reversed(numbers):
        dim = sum(not isinstance(part, int) for part in parts[:place])
        whole = aten.index(whole, [None] * dim + [parts[place]])
    return whole


def _is_number(part: Any) -> bool:
    return isinstance(part, torch.Tensor) and part.dim() == 0 and part.dtype in (torch.int64, torch.int32)


@functools.wraps(torch.Tensor.fill_diagonal_)
def fill_diagonal(value: torch.Tensor, fill_value: float, wrap: bool = False) -> torch.Tensor:
    """For any number of rows; PyTorch's own asks how many there are."""
    if value.dim() < 2:
        return value.fill_diagonal_(fill_value, wrap)  # PyTorch refuses it
    places = [torch.arange(extent) for extent in value.shape]
    if value.dim() == 2 and wrap:  # a diagonal begins again below the last one, after a row without
        places[0] = places[0] % (value.shape[1] + 1)
    first, *others = torch.meshgrid(*places, indexing="ij")
    return value.masked_fill_(
        functools.reduce(torch.logical_and, [first == other for other in others]), fill_value
    )


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.fill_diagonal_: fill_diagonal,
    torch.Tensor.__getitem__: getitem,
}
"""Functions of PyTorch that read values, or numbers of rows, where a Plan has an operation."""
