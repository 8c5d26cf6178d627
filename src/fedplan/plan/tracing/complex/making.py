"""Complex numbers made from nothing, and from others by their shape."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.plan.tracing.complex.numbers import REAL, Complex, made, whole

aten: Any = torch.ops.aten


def _cast(value: Any, *, dtype: torch.dtype | None = None, **_: Any) -> Any:
    if dtype is None:
        return value
    if isinstance(value, Complex):
        return Complex(value.parts.to(REAL[dtype])) if dtype.is_complex else value.real.to(dtype)
    return made(value.to(REAL[dtype]), None)


def _copied(value: Complex, source: Any, *_: Any) -> Complex:
    return Complex(whole(source).parts.expand_as(value.parts).to(value.parts.dtype))


def _filled(value: Complex, fill: Any) -> Complex:
    if isinstance(fill, Complex | torch.Tensor):
        return _copied(value, fill)
    each = zip((value.real, value.imag), _numbers(fill), strict=True)
    return made(*(torch.full_like(part, number) for part, number in each))


def _numbers(fill: Any) -> tuple[float, float]:
    return (fill.real, fill.imag) if isinstance(fill, complex) else (fill, 0.0)


def _new(fill: Any) -> Callable[..., Complex]:
    def call(size: Sequence[int], *args: Any, dtype: torch.dtype = torch.complex64, **_: Any) -> Complex:
        given = args[0] if args and not isinstance(args[0], list | tuple) else fill  # strides are no fill
        parts = (torch.full(list(size), number, dtype=REAL[dtype]) for number in _numbers(given))
        return made(*parts)

    return call


def _like(fill: Any) -> Callable[..., Any]:
    def call(value: Any, *args: Any, dtype: torch.dtype | None = None, **_: Any) -> Any:
        shape = value.real.shape if isinstance(value, Complex) else value.shape
        given = args[0] if args else fill
        if dtype is not None and not dtype.is_complex:
            return torch.full(shape, given, dtype=dtype)
        whole = torch.complex128 if value.parts.dtype == torch.float64 else torch.complex64
        return _new(given)(shape, dtype=dtype or whole)

    return call


def _new_of(fill: float) -> Callable[..., Complex]:
    def call(value: Any, size: Sequence[int], *args: Any, **options: Any) -> Any:
        like = value.parts if isinstance(value, Complex) else value
        dtype = options.get("dtype")
        if dtype is not None and not dtype.is_complex:
            return like.new_full(list(size), args[0] if args else fill, dtype=dtype)
        dtype = like.dtype if dtype is None else REAL[dtype]
        numbers = _numbers(args[0] if args else fill)
        return made(*(like.new_full(list(size), number, dtype=dtype) for number in numbers))

    return call


RULES: Mapping[str, Callable[..., Any]] = {
    "_efficientzerotensor": _new(0.0),
    "_to_copy": _cast,
    "copy": _copied,
    "empty": _new(0.0),
    "empty_like": _like(0.0),
    "empty_strided": _new(0.0),
    "fill": _filled,
    "full": _new(0.0),
    "full_like": _like(0.0),
    "new_empty": _new_of(0.0),
    "new_empty_strided": lambda value, size, stride, **options: _new_of(0.0)(value, size, **options),
    "new_full": _new_of(0.0),
    "new_ones": _new_of(1.0),
    "new_zeros": _new_of(0.0),
    "ones": _new(1.0),
    "ones_like": _like(1.0),
    "scalar_tensor": lambda fill, **options: _new(fill)([], **options),
    "zero": lambda value: Complex(torch.zeros_like(value.parts)),
    "zeros": _new(0.0),
    "zeros_like": _like(0.0),
}
"""By the name of an operator, what computes it."""
