"""Functions that choose elements by number."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fedplan.plan.variants.tfjs.vocabulary.values import Value, as_tensor, of_rank


def _int32(indices: Tensor) -> Tensor:
    if indices.dtype != torch.int32:
        raise TypeError(f"tfjs chooses by int32, not by {indices.dtype}")
    return indices


def gather(value: Value, indices: Tensor, axis: int = 0) -> Tensor:
    """Slices along an axis."""
    tensor = of_rank(value, 4)
    shape = (*tensor.shape[:axis], *_int32(indices).shape, *tensor.shape[axis + 1 :])
    return tensor.index_select(axis, indices.flatten()).reshape(shape)


def gather_nd(value: Value, indices: Tensor) -> Tensor:
    """The slices at places along the first axes; the last axis of the indices holds a place's numbers."""
    tensor = as_tensor(value)
    depth = indices.shape[-1]
    rows = _rows(_int32(indices).reshape(-1, depth), tensor.shape[:depth])
    slices = tensor.reshape(math.prod(tensor.shape[:depth]), *tensor.shape[depth:])
    return slices.index_select(0, rows).reshape(*indices.shape[:-1], *tensor.shape[depth:])


def scatter_nd(indices: Tensor, updates: Tensor, shape: Sequence[int]) -> Tensor:
    """Zeros, to which slices are added at places along the first axes."""
    depth = indices.shape[-1]
    if indices.dim() < 2 or tuple(updates.shape) != (*indices.shape[:-1], *shape[depth:]):
        raise ValueError(f"updates {tuple(updates.shape)} at {tuple(indices.shape)} of {tuple(shape)}")
    rows = _rows(_int32(indices).reshape(-1, depth), shape[:depth])
    zeros = updates.new_zeros(math.prod(shape[:depth]), *shape[depth:])
    return zeros.index_add(0, rows, updates.reshape(-1, *shape[depth:])).reshape(tuple(shape))


def _rows(places: Tensor, extents: Sequence[int]) -> Tensor:
    """Places as numbers of slices that lie one behind the other; tfjs in Node refuses any outside."""
    count = torch.zeros_like(places[:, 0])
    for number, extent in zip(places.unbind(1), extents, strict=True):
        count = count * extent + number
    if bool(((count < 0) | (count >= math.prod(extents))).any()):
        raise IndexError(f"a place outside of the shape {tuple(extents)}")
    return count


def one_hot(indices: Tensor, depth: int, on: float = 1, off: float = 0) -> Tensor:
    """A row for each index, with another number there."""
    if depth < 2 or indices.dtype != torch.int32:
        raise ValueError("tfjs makes one-hot rows of int32 indices, two classes at least")
    hit = indices.unsqueeze(-1) == torch.arange(depth, dtype=torch.int32)
    return torch.where(hit, on, off).to(torch.int32)
