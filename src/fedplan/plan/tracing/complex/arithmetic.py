"""Arithmetic with complex numbers."""

from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedplan.plan.tracing.complex.numbers import Complex, Part, made, parts_of

aten: Any = torch.ops.aten


def _plus(one: Part, other: Part) -> Part:
    if one is None or other is None:
        return one if other is None else other
    return one + other


def _times(one: Part, other: Part) -> Part:
    return None if one is None or other is None else one * other


def _minus(one: Part, other: Part) -> Part:
    if one is None or other is None:
        return one if other is None else -other
    return one - other


def _add(one: Any, other: Any, *, alpha: float = 1) -> Complex:
    (a, b), (c, d) = parts_of(one), parts_of(other)
    if alpha != 1:
        c, d = _times(c, alpha), _times(d, alpha)
    return made(_plus(a, c), _plus(b, d))


def _subtract(one: Any, other: Any, *, alpha: float = 1) -> Complex:
    return _add(one, other, alpha=-alpha)


def _multiply(one: Any, other: Any) -> Complex:
    (a, b), (c, d) = parts_of(one), parts_of(other)
    return made(_minus(_times(a, c), _times(b, d)), _plus(_times(a, d), _times(b, c)))


def _divide(one: Any, other: Any) -> Complex:
    c, d = parts_of(other)
    if d is None:
        a, b = parts_of(one)
        return made(_over(a, c), _over(b, c))
    size = _plus(_times(c, c), d * d)
    return _multiply(one, (_over(c, size), _over(-d, size)))


def _over(one: Part, other: Part) -> Part:
    assert other is not None
    return None if one is None else one / other


def _size(value: Complex) -> torch.Tensor:
    return (value.real.square() + value.imag.square()).sqrt()


def _direction(value: Complex) -> Complex:
    """A number of the size 1 in the direction of each; 0 for 0."""
    size = _size(value).unsqueeze(-1)
    return Complex(torch.where(size == 0, 0.0, value.parts / torch.where(size == 0, 1.0, size)))


def _angle(value: Complex) -> torch.Tensor:
    return torch.atan2(value.imag, value.real)


def _polar(size: torch.Tensor, angle: torch.Tensor) -> Complex:
    return made(size * angle.cos(), size * angle.sin())


def _power(value: Any, exponent: Any) -> Complex:
    if isinstance(exponent, int | float) and float(exponent).is_integer() and 0 < exponent <= 4:
        made = value
        for _ in range(int(exponent) - 1):
            made = _multiply(made, value)
        return Complex(made.parts)
    real = torch.as_tensor(0.0 if isinstance(value, Complex) else value)
    logarithm = _logarithm(value) if isinstance(value, Complex) else real.log()
    return _exponential(_multiply(logarithm, exponent))


def _exponential(value: Complex) -> Complex:
    return _polar(value.real.exp(), value.imag)


def _logarithm(value: Complex) -> Complex:
    return made(_size(value).log(), _angle(value))


def _root(value: Complex) -> Complex:
    size = _size(value)
    return _polar(size.sqrt(), _angle(value) / 2)


def _cosine(value: Complex) -> Complex:
    x, y = value.real, value.imag
    return made(x.cos() * y.cosh(), -x.sin() * y.sinh())


def _sine(value: Complex) -> Complex:
    x, y = value.real, value.imag
    return made(x.sin() * y.cosh(), x.cos() * y.sinh())


def _conjugate(value: Any) -> Any:
    if isinstance(value, complex):
        return value.conjugate()
    return made(value.real, -value.imag) if isinstance(value, Complex) else value


def _matrix_product(product: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> Callable[..., Complex]:
    """A product that is linear in both."""

    def multiply(one: Any, other: Any) -> Complex:
        (a, b), (c, d) = parts_of(one), parts_of(other)

        def part(x: Part, y: Part) -> Part:
            if isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor):
                return product(x, y)
            return None

        return made(_minus(part(a, c), part(b, d)), _plus(part(a, d), part(b, c)))

    return multiply


def _added_product(product: Callable[..., Complex]) -> Callable[..., Complex]:
    def call(added: Any, one: Any, other: Any, *, beta: float = 1, alpha: float = 1) -> Complex:
        made = product(one, other)
        made = made if alpha == 1 else _multiply(made, alpha)
        return made if beta == 0 else _add(made, added, alpha=beta)

    return call


def _plus_product(added: Any, one: Any, other: Any, *, value: float = 1) -> Complex:
    return _add(added, _multiply(one, other), alpha=value)


def _norm(
    value: Complex, order: float = 2, dim: Any = None, keepdim: bool = False, **options: Any
) -> torch.Tensor:
    norm: torch.Tensor = torch.linalg.vector_norm(_size(value), order, dim, keepdim, **options)
    return norm


def _both(
    function: Callable[..., torch.Tensor], of_parts: Callable[..., torch.Tensor]
) -> Callable[..., torch.Tensor]:
    """A truth about a number that follows from truths about its parts."""

    def call(one: Any, *others: Any) -> torch.Tensor:
        pairs = [parts_of(value) for value in (one, *others)]
        truths = [
            function(*(torch.as_tensor(0.0 if part is None else part) for part in parts))
            for parts in zip(*pairs, strict=True)
        ]
        return of_parts(*truths)

    return call


_mm, _bmm, _mv = (_matrix_product(getattr(torch, name)) for name in ("mm", "bmm", "mv"))
_dot = _matrix_product(lambda one, other: (one * other).sum())


RULES: Mapping[str, Callable[..., Any]] = {
    "_conj": _conjugate,
    "_conj_physical": _conjugate,
    "abs": _size,
    "add": _add,
    "addcmul": _plus_product,
    "addmm": _added_product(_mm),
    "addmv": _added_product(_mv),
    "angle": _angle,
    "baddbmm": _added_product(_bmm),
    "bmm": _bmm,
    "complex": made,
    "conj_physical": _conjugate,
    "cos": _cosine,
    "div": _divide,
    "dot": _dot,
    "eq": _both(torch.eq, torch.logical_and),
    "exp": _exponential,
    "isfinite": _both(torch.isfinite, torch.logical_and),
    "isinf": _both(torch.isinf, torch.logical_or),
    "isnan": _both(torch.isnan, torch.logical_or),
    "linalg_vector_norm": _norm,
    "log": _logarithm,
    "mm": _mm,
    "mul": _multiply,
    "mv": _mv,
    "ne": _both(torch.ne, torch.logical_or),
    "neg": lambda value: Complex(-value.parts),
    "polar": _polar,
    "pow": _power,
    "reciprocal": lambda value: _divide(1.0, value),
    "resolve_conj": lambda value: value,
    "resolve_neg": lambda value: value,
    "rsub": lambda one, other, alpha=1: _subtract(other, one, alpha=alpha),
    "sgn": _direction,
    "sin": _sine,
    "sqrt": _root,
    "sub": _subtract,
    "vdot": lambda one, other: _dot(_conjugate(one), other),
    "view_as_complex": Complex,
    "view_as_real": lambda value: value.parts,
}
"""By the name of an operator, what computes it."""
