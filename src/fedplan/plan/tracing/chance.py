"""What PyTorch's random operators make of a draw: plain operations on numbers that come from outside.

A rule says from which distribution an operator's numbers are drawn, and computes the operator from them. It
writes in place where the operator does.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch._ops import OpOverload

from fedplan.plan.random import NORMAL, UNIFORM

_SMALLEST = 2.0**-25
"""Half a step of a uniform float32. No exponential number is smaller, so that all logarithms are finite."""

_aten: Any = torch.ops.aten


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """How a random operator is computed from a draw.

    Attributes:
        distribution: of the draw.
        answer: (draw, *arguments of the operator) → its result. The draw has the operator's shape.
        dtype: of the draw; None for that of the result, or float32 where this is neither float32 nor float64.
    """

    distribution: str
    answer: Callable[..., Any]
    dtype: torch.dtype | None = None


def scaled(mask: torch.Tensor, dtype: torch.dtype, scale: float) -> torch.Tensor:
    """A mask as factors: `scale` where it is true. Said alike forward and backward, it is computed once."""
    return mask.to(dtype) * scale


def _dropout(
    u: torch.Tensor, x: torch.Tensor, p: float, train: bool | None
) -> tuple[torch.Tensor, torch.Tensor]:
    mask = u >= p
    return x * scaled(mask, x.dtype, 1.0 / (1.0 - p)), mask


def _true(u: torch.Tensor, probability: float) -> torch.Tensor:
    """True with this probability; 1 − p of it is dropout's mask of the same draw."""
    return u >= 1 - probability


def _is_narrow(dtype: torch.dtype) -> bool:
    """Whether numbers are drawn as float32 and then rounded to this dtype."""
    return torch.finfo(dtype).bits < 32


def _below_one(u: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """Uniform numbers that stay below one when they are rounded to this dtype."""
    return u.clamp(max=1 - torch.finfo(dtype).eps / 2) if _is_narrow(dtype) else u


def _uniform(u: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return _below_one(u, dtype).to(dtype)


def _exponential(u: torch.Tensor, dtype: torch.dtype, rate: float) -> torch.Tensor:
    """Numbers that stay above zero when they are rounded to this dtype."""
    numbers = -torch.log1p(-u).clamp(max=-_SMALLEST) / rate
    if not _is_narrow(dtype):
        return numbers
    return numbers.clamp(min=torch.finfo(dtype).smallest_normal * torch.finfo(dtype).eps)


def _into(target: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    return target.copy_(value.to(target.dtype))


def _leaky(
    u: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor,
    lower: float = 1 / 8,
    upper: float = 1 / 3,
    training: bool = False,
    generator: None = None,
) -> torch.Tensor:
    slope = torch.where(x <= 0, lower + (upper - lower) * u, 1.0).to(x.dtype)
    noise.copy_(slope)
    return x * slope


def _leaky_in_place(u: torch.Tensor, x: torch.Tensor, *rest: Any) -> torch.Tensor:
    return x.copy_(_leaky(u, x, *rest))


def _leaky_evenly(
    x: torch.Tensor, noise: torch.Tensor, lower: float = 1 / 8, upper: float = 1 / 3, *rest: Any
) -> torch.Tensor:
    """In place, outside of training."""
    return x.copy_(torch.where(x > 0, x, x * ((lower + upper) / 2)))


def _dtype(x: torch.Tensor, options: Mapping[str, Any]) -> torch.dtype:
    wanted: torch.dtype | None = options.get("dtype")
    return x.dtype if wanted is None else wanted


def _float(options: Mapping[str, Any]) -> torch.dtype:
    wanted: torch.dtype | None = options.get("dtype")
    return torch.get_default_dtype() if wanted is None else wanted


def _whole(u: torch.Tensor, low: int, high: int, dtype: torch.dtype | None) -> torch.Tensor:
    return (low + torch.floor(u * (high - low))).to(dtype or torch.int64)


_F32, _F64 = torch.float32, torch.float64

RULES: Mapping[OpOverload, Rule] = {
    _aten.native_dropout.default: Rule(UNIFORM, _dropout, _F32),
    _aten.bernoulli_.float: Rule(UNIFORM, lambda u, t, p=0.5, **k: _into(t, _true(u, p)), _F32),
    _aten.bernoulli_.Tensor: Rule(UNIFORM, lambda u, t, p, **k: _into(t, u < p), _F32),
    _aten.bernoulli.default: Rule(UNIFORM, lambda u, p, **k: (u < p).to(p.dtype), _F32),
    _aten.bernoulli.p: Rule(UNIFORM, lambda u, t, p, **k: _true(u, p).to(t.dtype), _F32),
    _aten.rand.default: Rule(UNIFORM, lambda u, size, **k: _uniform(u, _float(k))),
    _aten.rand_like.default: Rule(UNIFORM, lambda u, x, **k: _uniform(u, _dtype(x, k))),
    _aten.uniform_.default: Rule(
        UNIFORM, lambda u, t, a=0.0, b=1.0, **k: _into(t, a + (b - a) * _below_one(u, t.dtype))
    ),
    _aten.exponential_.default: Rule(
        UNIFORM, lambda u, t, rate=1.0, **k: _into(t, _exponential(u, t.dtype, rate))
    ),
    _aten.cauchy_.default: Rule(
        UNIFORM, lambda u, t, m=0.0, s=1.0, **k: _into(t, m + s * torch.tan(math.pi * (u - 0.5)))
    ),
    _aten.rrelu_with_noise.default: Rule(UNIFORM, _leaky, _F32),
    _aten.rrelu_with_noise_.default: Rule(UNIFORM, _leaky_in_place, _F32),
    _aten.randn.default: Rule(NORMAL, lambda z, size, **k: z.to(_float(k))),
    _aten.randn_like.default: Rule(NORMAL, lambda z, x, **k: z.to(_dtype(x, k))),
    _aten.normal_.default: Rule(NORMAL, lambda z, t, m=0.0, s=1.0, **k: _into(t, m + s * z)),
    _aten.log_normal_.default: Rule(NORMAL, lambda z, t, m=1.0, s=2.0, **k: _into(t, torch.exp(m + s * z))),
    _aten.normal.Tensor_Tensor: Rule(NORMAL, lambda z, m, s, **k: (m + s * z).to(m.dtype)),
    _aten.normal.Tensor_float: Rule(NORMAL, lambda z, m, s=1.0, **k: (m + s * z).to(m.dtype)),
    _aten.normal.float_Tensor: Rule(NORMAL, lambda z, m, s, **k: (m + s * z).to(s.dtype)),
    _aten.normal.float_float: Rule(NORMAL, lambda z, m, s, size, **k: (m + s * z).to(_float(k))),
    _aten.randint.default: Rule(UNIFORM, lambda u, high, size, **k: _whole(u, 0, high, k.get("dtype")), _F64),
    _aten.randint.low: Rule(
        UNIFORM, lambda u, low, high, size, **k: _whole(u, low, high, k.get("dtype")), _F64
    ),
    _aten.randint_like.default: Rule(UNIFORM, lambda u, x, high, **k: _whole(u, 0, high, _dtype(x, k)), _F64),
    _aten.randint_like.low_dtype: Rule(
        UNIFORM, lambda u, x, low, high, **k: _whole(u, low, high, _dtype(x, k)), _F64
    ),
    _aten.randperm.default: Rule(
        UNIFORM, lambda u, n, **k: torch.argsort(u).to(k.get("dtype") or torch.int64), _F64
    ),
}
"""Every random operator that can be part of a Plan."""

_UNTAGGED = frozenset({"aten::random_", "aten::random", "aten::_sample_dirichlet"})
"""Operators that draw, and that PyTorch does not tag as such."""


def draws(op: Any, args: tuple[Any, ...]) -> bool:
    """Whether a call of this operator takes random numbers."""
    if not isinstance(op, OpOverload):
        return False
    if op is _aten.native_dropout.default:
        return args[2] is not False and 0 < args[1] < 1
    if op in (_aten.rrelu_with_noise.default, _aten.rrelu_with_noise_.default):
        return len(args) > 4 and bool(args[4])
    return torch.Tag.nondeterministic_seeded in op.tags or op._schema.name in _UNTAGGED


def _dropped_alike(x: torch.Tensor, p: float, train: bool | None) -> tuple[torch.Tensor, torch.Tensor]:
    kept = p == 0 or train is False
    like = torch.ones_like if kept else torch.zeros_like
    return x * (1.0 if kept else 0.0), like(x, dtype=torch.bool)


def _dropout_backward(gradient: torch.Tensor, mask: torch.Tensor, scale: float) -> torch.Tensor:
    return gradient * scaled(mask, gradient.dtype, scale)


def _leaky_backward(
    gradient: torch.Tensor,
    x: torch.Tensor,
    noise: torch.Tensor,
    lower: float,
    upper: float,
    training: bool,
    _: Any,
) -> torch.Tensor:
    return gradient * (noise if training else torch.where(x > 0, 1.0, (lower + upper) / 2))


WITHOUT_DRAW: Mapping[OpOverload, Callable[..., Any]] = {
    _aten.native_dropout.default: _dropped_alike,
    _aten.native_dropout_backward.default: _dropout_backward,
    _aten.rrelu_with_noise_.default: _leaky_evenly,
    _aten.rrelu_with_noise_backward.default: _leaky_backward,
}
"""Operators that could draw and do not as they are called, and the gradients of random operators."""
