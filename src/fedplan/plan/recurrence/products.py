"""Products over all steps of a recurrence, and tanh, as they are quickest.

Which way is quicker was measured on an x86 CPU with AVX-512 and MKL; all ways agree to within rounding.

Where clients are side by side (`fedplan.plan.clients`), all shapes have their axis too: (T, clients, B, …)
for what has time, (clients, …) for weights and states. Their products are products of stacks.
"""

from collections.abc import Callable

import torch

from fedplan.plan.ops.executor import has_onednn
from fedplan.plan.recurrence.reference import previous

_NARROW = 64
"""Columns up to which MKL multiplies a tall matrix several times quicker when it is the second factor."""

_LARGE = 2**21
"""Multiplications from which on oneDNN is quicker than MKL, in spite of its 10 µs a call."""

_FEW = 1536
"""Elements up to which PyTorch's own tanh is quicker than four operations."""


def rows(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    """(T, B, I) by (G, I), plus (G): (T, B, G), contiguous, in memory of its own."""
    return _by_time(_linear(_flat(x), weight, bias), x)


def rows_back(d: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """(T, B, G) by (G, I): (T, B, I)."""
    return _by_time(_linear(_flat(d), weight.mT, None), d)


def _linear(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    if weight.dim() == 3:
        columns = weight.mT
        return x.bmm(columns) if bias is None else torch.baddbmm(bias.unsqueeze(1), x, columns)
    large = x.numel() * weight.shape[0] >= _LARGE
    if large and x.dtype == torch.float32 and x.device.type == "cpu" and has_onednn():
        product: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
        return product
    return torch.nn.functional.linear(x, weight, bias)


def _flat(value: torch.Tensor) -> torch.Tensor:
    """(T, B, N) as (T · B, N)."""
    return value.flatten(0, 1) if value.dim() == 3 else value.transpose(0, 1).flatten(1, 2)


def _by_time(flat: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """(T · B, N) as (T, B, N), contiguous; T and B are those of `like`."""
    if like.dim() == 3:
        return flat.view(*like.shape[:2], flat.shape[1])
    steps, clients, count, _ = like.shape
    return flat.view(clients, steps, count, flat.shape[2]).transpose(0, 1).contiguous()


def adder(x: torch.Tensor) -> Callable[..., torch.Tensor]:
    """What adds a product of two matrices of one step to a third, in place."""
    added: Callable[..., torch.Tensor] = torch.Tensor.addmm_ if x.dim() == 3 else torch.Tensor.baddbmm_
    return added


def both(one: torch.Tensor | None, other: torch.Tensor | None) -> torch.Tensor | None:
    """The sum of two biases, each of which may be None."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def outer(d: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """The sum over steps and sequences of the products of (T, B, G) and (T, B, I): (G, I), contiguous."""
    left, right = _flat(d), _flat(x)
    if left.dim() == 3:
        return left.mT.bmm(right)
    if right.shape[1] <= _NARROW:
        return right.t().mm(left).t().contiguous()
    return left.t().mm(right)


def outer_hidden(
    d: torch.Tensor, y: torch.Tensor, h0: torch.Tensor, going: torch.Tensor | None, reverse: bool
) -> torch.Tensor:
    """The same for the hidden state before each step, given the one after each: the gradient of w_hh."""
    if going is not None:
        return outer(d, previous(y, h0, going, reverse))
    if reverse:
        return adder(d)(outer(d[:-1], y[1:]), d[-1].mT, h0)
    return adder(d)(outer(d[1:], y[:-1]), d[0].mT, h0)


def sums(d: torch.Tensor) -> torch.Tensor:
    """The sum over steps and sequences of (T, B, G): (G)."""
    flat = _flat(d)
    if flat.dim() == 3:
        return flat.sum(1)
    return flat.new_ones(1, flat.shape[0]).mm(flat).view(flat.shape[1])


def tanh(value: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """tanh(value) into `out`, which may be `value`: 2 σ(2 v) − 1 where that is quicker, right to 1e-7."""
    if value.dtype != torch.float32 or value.device.type != "cpu" or value.numel() <= _FEW:
        return torch.tanh(value, out=out)
    return torch.mul(value, 2, out=out).sigmoid_().mul_(2).sub_(1)
