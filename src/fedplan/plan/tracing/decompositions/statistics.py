"""Quantiles and counts."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedplan.errors import UnsupportedOpError
from fedplan.plan.tracing import source

aten = torch.ops.aten


def _quantile(
    value: torch.Tensor,
    q: torch.Tensor | float,
    dim: int | None = None,
    keepdim: bool = False,
    *,
    interpolation: str = "linear",
    ignore_nan: bool = False,
) -> torch.Tensor:
    """Values below which shares q of the elements lie; as PyTorch computes them, without its checks of q."""
    shares = q if isinstance(q, torch.Tensor) else torch.full((), q, dtype=value.dtype)
    flat = value.reshape(-1) if dim is None or value.dim() == 0 else value.movedim(dim, -1)
    ordered = flat.sort(dim=-1)[0]  # NaN comes last
    ranks = shares.reshape(-1)
    if ignore_nan:
        ranks = ranks * (ordered.isnan().logical_not().sum(-1, keepdim=True) - 1)
        ranks = torch.where(ranks < 0, 0.0, ranks)
    else:
        ranks = torch.where(ordered.isnan().any(-1, keepdim=True), 1.0, ranks) * (ordered.shape[-1] - 1)
    if interpolation == "lower":
        ranks = ranks.floor()
    elif interpolation == "higher":
        ranks = ranks.ceil()
    elif interpolation == "nearest":
        ranks = ranks.round()
    below = ranks.to(torch.int64)
    found = ordered.gather(-1, below)  # (…, shares)
    if interpolation in ("linear", "midpoint"):
        above = ordered.gather(-1, ranks.ceil().to(torch.int64))
        weight = torch.full_like(ranks, 0.5) if interpolation == "midpoint" else ranks - below
        found = found.lerp(above, weight)
    return _shaped(found, value, shares.dim(), dim, keepdim)


def _shaped(
    found: torch.Tensor, value: torch.Tensor, rank_of_shares: int, dim: int | None, keepdim: bool
) -> torch.Tensor:
    """The shares go first when there are several; a dimension that was kept has one element."""
    if keepdim:
        ones = [1] * value.dim()
        found = found.reshape([*ones, -1]) if dim is None else found.unsqueeze(dim % value.dim())
    return found.movedim(-1, 0) if rank_of_shares else found.squeeze(-1)


def _nanquantile(*args: Any, **options: Any) -> torch.Tensor:
    return _quantile(*args, **options, ignore_nan=True)


def _bincount(value: torch.Tensor, weights: torch.Tensor | None = None, minlength: int = 0) -> torch.Tensor:
    """How often each number below `minlength` occurs. A larger number makes the Plan fail."""
    if minlength == 0:
        raise UnsupportedOpError(
            "aten.bincount.default",
            source=source.here(),
            instead="The length of its result depends on values. Give it a length: minlength=10.",
        )
    if weights is None:
        weights = torch.ones_like(value, dtype=torch.int64)
    elif weights.dtype != torch.float32:
        weights = weights.to(torch.float64)
    return torch.zeros(minlength, dtype=weights.dtype).scatter_add(0, value.to(torch.int64), weights)


def _index_fill(value: torch.Tensor, dim: int, index: torch.Tensor, fill: torch.Tensor) -> torch.Tensor:
    if value.dim() == 0:
        return torch.where(torch.ones((), dtype=torch.bool), fill, value)
    chosen = torch.zeros(value.shape[dim], dtype=torch.bool).index_fill(0, index, True)
    shape = [1] * value.dim()
    shape[dim] = -1
    return torch.where(chosen.reshape(shape), fill, value)


def _covariance(
    value: torch.Tensor,
    *,
    correction: int = 1,
    fweights: torch.Tensor | None = None,
    aweights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Of variables in rows, observations in columns."""
    value = value.reshape(1, -1) if value.dim() < 2 else value
    given = [weights for weights in (fweights, aweights) if weights is not None]
    if not given:
        count: Any = value.shape[1]
        freedom: Any = torch.sym_max(count - correction, 0)  # type: ignore[no-untyped-call]
        apart = value - value.sum(1, keepdim=True) / count
        covariance: torch.Tensor = (apart @ apart.mT) / freedom
        return covariance.squeeze()
    weights = given[0] if len(given) == 1 else given[0] * given[1]
    count = weights.sum()
    apart = value - (value * weights).sum(1, keepdim=True) / count
    if aweights is not None and correction != 0:
        freedom = count - correction * (weights * aweights).sum() / count
    else:
        freedom = count - correction
    covariance = (apart @ (apart * weights).mT) / freedom.clamp(min=0)
    return covariance.squeeze()


@functools.wraps(torch.mean)
def mean(value: torch.Tensor, *args: Any, **options: Any) -> Any:
    """Of complex numbers by their parts, since PyTorch would make a complex number of how many there are."""
    if not value.is_complex():
        return torch.mean(value, *args, **options)
    dims = options.pop("dim", args[0] if args else None)
    chosen = range(value.dim()) if dims is None else [dims] if isinstance(dims, int) else dims
    parts = torch.view_as_real(value.resolve_conj())
    return torch.view_as_complex(parts.mean([d % value.dim() for d in chosen], *args[1:], **options))


FUNCTIONS: Mapping[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.mean: mean,
    torch.mean: mean,
}
"""Functions of PyTorch that take a fixed size where a Plan has any."""

BEFORE: Mapping[Any, Callable[..., Any]] = {
    aten.bincount.default: _bincount,
    aten.cov.default: _covariance,
    aten.index_fill.int_Tensor: _index_fill,
    aten.nanquantile.default: _nanquantile,
    aten.nanquantile.scalar: _nanquantile,
    aten.quantile.default: _quantile,
    aten.quantile.scalar: _quantile,
}
"""For what autograd has not looked at."""
