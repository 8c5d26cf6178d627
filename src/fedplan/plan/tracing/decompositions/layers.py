"""Layers of networks: distances, sums over bags of words, weights that are made from others."""

import functools
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional as F

from fedplan.errors import UnsupportedOpError
from fedplan.plan.tracing import source
from fedplan.plan.tracing.decompositions.sampling import triu_indices

aten = torch.ops.aten

_MANY = 25
"""From so many rows on, PyTorch computes distances by a matrix product, which is quicker and less exact."""

_SUM, _AVERAGE = "sum", "mean"


def _cdist(
    one: torch.Tensor, other: torch.Tensor, p: float = 2.0, compute_mode: int | None = None
) -> torch.Tensor:
    """Distances of each row of one to each row of the other, as PyTorch computes them.

    Whether the first has many rows is not looked at, since that may be the batch.
    """
    rows = other.shape[-2]
    many = isinstance(rows, int) and rows > _MANY
    if p == 2 and (compute_mode == 1 or (compute_mode != 2 and many)):
        return _euclidean(one, other)
    return _norm(one.unsqueeze(-2) - other.unsqueeze(-3), p)


def _euclidean(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    squares = [value.square().sum(-1, keepdim=True) for value in (one, other)]
    left = torch.cat([one * -2, squares[0], torch.ones_like(squares[0])], -1)
    right = torch.cat([other, torch.ones_like(squares[1]), squares[1]], -1)
    square = (left @ right.mT).clamp(min=0)
    # where the distance is nothing, its gradient is none
    return torch.where(square > 0, torch.where(square > 0, square, 1.0).sqrt(), 0.0)


def _norm(difference: torch.Tensor, p: float) -> torch.Tensor:
    if p == math.inf:
        return difference.abs().amax(-1) if difference.shape[-1] else difference.sum(-1)
    norm: torch.Tensor = torch.linalg.vector_norm(difference, p, -1)
    if p == 0:  # its gradient is zeros, not none
        nowhere = torch.zeros_like(difference, dtype=torch.bool)
        norm = norm + torch.where(nowhere, difference, 0.0).sum(-1)
    return norm


def _pdist(value: torch.Tensor, p: float = 2) -> torch.Tensor:
    """Distances of each row to those after it."""
    rows = value.shape[0]
    first, second = triu_indices(rows, rows, 1).unbind(0)
    return _norm(value[first] - value[second], p)


def _bilinear(
    one: torch.Tensor, other: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    """y[k] = one · weight[k] · other + bias[k], by one matrix product and a sum."""
    out, left, right = weight.shape
    halfway = one @ weight.permute(1, 0, 2).reshape(left, out * right)  # (…, out · right)
    halfway = halfway.reshape(*one.shape[:-1], out, right)
    made = (halfway * other.unsqueeze(-2)).sum(-1)
    return made if bias is None else made + bias


def _conv_tbc(
    value: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, padding: int = 0
) -> torch.Tensor:
    """A convolution of (steps, rows, channels), its weight (size, channels, made)."""
    made = F.conv1d(value.permute(1, 2, 0), weight.permute(2, 1, 0), bias, padding=padding)
    return made.permute(2, 0, 1).contiguous()


def _embedding_bag_of_offsets(
    weight: torch.Tensor,
    indices: torch.Tensor,
    offsets: torch.Tensor,
    _scale_grad_by_freq: bool = False,
    mode: int = 0,
    sparse: bool = False,
    per_sample_weights: torch.Tensor | None = None,
    include_last_offset: bool = False,
    padding_idx: int = -1,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Bags of words that lie one after the other, each beginning at its offset."""
    offsets = offsets[:-1] if include_last_offset else offsets
    bags = torch.searchsorted(offsets, torch.arange(indices.shape[0], dtype=offsets.dtype), right=True) - 1
    rows = F.embedding(indices, weight)  # (words, width)
    counted = indices != padding_idx if padding_idx >= 0 else torch.ones_like(indices, dtype=torch.bool)
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.unsqueeze(1)
    shape = [offsets.shape[0], weight.shape[1]]
    spread = bags.unsqueeze(1).expand_as(rows)
    sizes = torch.zeros(shape[:1], dtype=rows.dtype).scatter_add(0, bags, counted.to(rows.dtype))
    if mode == _MODES["max"]:
        lowest = torch.where(counted.unsqueeze(1), rows, -torch.inf)
        made = torch.full(shape, -torch.inf, dtype=rows.dtype).scatter_reduce(0, spread, lowest, "amax")
        made = torch.where(sizes.unsqueeze(1) > 0, made, 0.0)
    else:
        kept = torch.where(counted.unsqueeze(1), rows, 0.0)
        made = torch.zeros(shape, dtype=rows.dtype).scatter_add(0, spread, kept)
        if mode == _MODES[_AVERAGE]:
            made = made / sizes.clamp(min=1).unsqueeze(1)
    return made, bags, sizes.to(torch.int64), torch.zeros_like(offsets)


_SCALED_BY_FREQUENCY = (
    "With scale_grad_by_freq, PyTorch's own gradient on the CPU divides by how often other words occur. Use "
    "nn.Embedding(…, scale_grad_by_freq=True), and `.sum(1)` or `.mean(1)` of what it returns."
)

_MODES = {_SUM: 0, _AVERAGE: 1, "max": 2}


@functools.wraps(F.embedding_bag)
def embedding_bag(
    input: torch.Tensor, weight: torch.Tensor, offsets: torch.Tensor | None = None, *args: Any, **options: Any
) -> torch.Tensor:
    """Bags of words of one length, each a row: no places in memory need to be found."""
    names = ("max_norm", "norm_type", "scale_grad_by_freq", "mode", "sparse", "per_sample_weights",
             "include_last_offset", "padding_idx")  # fmt: skip
    given = dict(zip(names, args, strict=False)) | options
    if given.pop("scale_grad_by_freq", False):
        raise UnsupportedOpError(
            "aten._embedding_bag.default", source=source.here(), instead=_SCALED_BY_FREQUENCY
        )
    words = input
    if not weight.is_floating_point():  # the order of arguments of long ago
        words, weight = weight, words
    if words.dim() != 2 or offsets is not None:
        return F.embedding_bag(words, weight, offsets, **given)
    norm = given.get("max_norm"), given.get("norm_type", 2.0)
    rows = F.embedding(words, weight, None, *norm)  # (bags, words, width)
    padding = given.get("padding_idx")
    mode = given.get("mode", _AVERAGE)
    if given.get("per_sample_weights") is not None:
        rows = rows * given["per_sample_weights"].unsqueeze(-1)
    counted = None if padding is None else (words != padding % weight.shape[0]).unsqueeze(-1)
    if mode == "max":
        return _largest(rows, counted)
    total = rows.sum(1) if counted is None else torch.where(counted, rows, 0.0).sum(1)
    if mode == _SUM:
        return total
    return total / (words.shape[1] if counted is None else counted.sum(1).clamp(min=1))


def _largest(rows: torch.Tensor, counted: torch.Tensor | None) -> torch.Tensor:
    if counted is None:
        return rows.amax(1)
    made = torch.where(counted, rows, -torch.inf).amax(1)
    return torch.where(counted.any(1), made, 0.0)


@functools.wraps(F.embedding)
def embedding(input: torch.Tensor, weight: torch.Tensor, *args: Any, **options: Any) -> torch.Tensor:
    """With a gradient that has all rows, also those that were not looked up: a Plan's tensors are dense."""
    options.pop("sparse", None)
    return F.embedding(input, weight, *args[:4], **options)


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    F.embedding: embedding,
    F.embedding_bag: embedding_bag,
}
"""Functions of PyTorch that choose an operation where a Plan has a better one."""

BEFORE: Mapping[Any, Callable[..., Any]] = {
    aten._embedding_bag.default: _embedding_bag_of_offsets,
    aten._embedding_bag_forward_only.default: _embedding_bag_of_offsets,
    aten.bilinear.default: _bilinear,
    aten.cdist.default: _cdist,
    aten.conv_tbc.default: _conv_tbc,
    aten.pdist.default: _pdist,
}
"""For what autograd has not looked at."""

AFTER: Mapping[Any, Callable[..., Any]] = {
    aten._weight_norm_interface_backward.default: aten._weight_norm_differentiable_backward.default,
}
"""For what autograd has looked at."""
