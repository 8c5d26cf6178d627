"""Operations on single elements, and other names of operations that are rows."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

aten = torch.ops.aten


def _angle(value: torch.Tensor) -> torch.Tensor:
    """Of a real number: 0 or pi."""
    straight = torch.where(value < 0, math.pi, 0.0)
    return torch.where(value.isnan(), value, straight) if value.is_floating_point() else straight


def _ldexp(value: torch.Tensor, exponent: torch.Tensor) -> torch.Tensor:
    return value * torch.pow(2.0, exponent)


def _round(value: torch.Tensor, *, decimals: int) -> torch.Tensor:
    scale = float(10 ** abs(decimals))
    if decimals == 0:
        return value.round()
    return (value * scale).round() / scale if decimals > 0 else (value / scale).round() * scale


def _addmv(
    added: torch.Tensor, matrix: torch.Tensor, vector: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    return _weighted(added, beta, torch.mv(matrix, vector), alpha)


def _addbmm(
    added: torch.Tensor, left: torch.Tensor, right: torch.Tensor, *, beta: float = 1, alpha: float = 1
) -> torch.Tensor:
    return _weighted(added, beta, torch.bmm(left, right).sum(0), alpha)


def _weighted(added: torch.Tensor, beta: float, product: torch.Tensor, alpha: float) -> torch.Tensor:
    product = product if alpha == 1 else product * alpha
    if beta == 0:  # what is added then counts for nothing, whatever it is
        return product
    return product + (added if beta == 1 else added * beta)


def _variance_and_mean(
    value: torch.Tensor,
    dim: list[int] | None = None,
    *,
    correction: float | None = None,
    keepdim: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    return value.var(dim, correction=correction, keepdim=keepdim), value.mean(dim, keepdim=keepdim)


def _distance(one: torch.Tensor, other: torch.Tensor, p: float = 2) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(one - other, p)
    return norm


def _zeros(size: Sequence[int], **options: Any) -> torch.Tensor:
    return torch.zeros(size, dtype=options.get("dtype"))


def _transpose(x: torch.Tensor, one: int, other: int) -> torch.Tensor:
    """As PyTorch's own decomposition, which takes milliseconds: networks transpose everywhere."""
    dims = [*range(x.dim())]
    if dims:
        dims[one], dims[other] = dims[other], dims[one]
    return x.permute(dims)


def _t(x: torch.Tensor) -> torch.Tensor:
    return x.permute([*range(x.dim())][::-1])


# A copy of a view is a view here: a Plan's values are never written to.
AFTER: Mapping[Any, Callable[..., Any]] = {
    aten._efficientzerotensor.default: _zeros,
    aten._neg_view.default: torch.neg,
    aten._unsafe_view.default: aten.view.default,
    aten.addbmm.default: _addbmm,
    aten.addmv.default: _addmv,
    aten.angle.default: _angle,
    aten.dist.default: _distance,
    aten.ldexp.Tensor: _ldexp,
    aten.narrow_copy.default: torch.narrow,
    aten.permute_copy.default: torch.permute,
    aten.round.decimals: _round,
    aten.t.default: _t,
    aten.transpose.int: _transpose,
    aten.unbind_copy.int: torch.unbind,
    aten.var_mean.correction: _variance_and_mean,
    aten.view_copy.default: torch.reshape,
}
"""For what autograd has looked at."""
