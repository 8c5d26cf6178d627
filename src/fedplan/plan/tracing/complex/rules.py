"""Which operations on complex numbers are known, and how they are called."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch.utils import _pytree as pytree

from fedplan.errors import UnsupportedOpError
from fedplan.plan.tracing.complex import arithmetic, fourier, making, shapes
from fedplan.plan.tracing.complex.numbers import Complex, axis, made


def concerns(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bool:
    """Whether an operation takes or makes complex numbers."""
    if not isinstance(target, torch._ops.OpOverload):
        return False  # what takes one of several results
    leaves = pytree.tree_leaves((args, kwargs), is_leaf=lambda value: isinstance(value, Complex))
    return _packet(target) in _MAKERS or any(
        isinstance(leaf, Complex | complex) or (isinstance(leaf, torch.dtype) and leaf.is_complex)
        for leaf in leaves
    )


def call(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any], place: str | None) -> Any:
    """An operation that concerns complex numbers, on their parts.

    Args:
        target: the operator of PyTorch.
        args: its arguments, complex tensors as `Complex`.
        kwargs: those by name.
        place: where in the author's code it is.

    Raises:
        UnsupportedOpError: it is not known how to compute it with real numbers.
    """
    name = _packet(target)
    if name in _TURNED:
        _TURNED[name](*args)
        return args[0]
    written = name.endswith("_") and not name.endswith("__")
    rule = _RULES.get(name.removesuffix("_") if written else name)
    if rule is None or (written and not isinstance(args[0], Complex)):
        raise UnsupportedOpError(
            str(target),
            source=place,
            instead="A Plan computes with real numbers: torch.view_as_real gives the two parts.",
        )
    made = rule(*args, **{key: value for key, value in kwargs.items() if key not in _PLACEMENT})
    if written:
        args[0].parts.copy_(made.parts)
        return args[0]
    return made


_PLACEMENT = frozenset({"layout", "device", "pin_memory", "memory_format", "non_blocking"})


def _packet(target: Any) -> str:
    return str(target).split(".")[1] if isinstance(target, torch._ops.OpOverload) else ""


def _fft(value: Complex, dims: Sequence[int], scaling: int, forward: bool) -> Complex:
    return made(*fourier.transformed((value.real, value.imag), dims, scaling, forward))


def _fft_of_real(value: torch.Tensor, dims: Sequence[int], scaling: int, onesided: bool) -> Complex:
    return made(*fourier.of_real(value, dims, scaling, onesided))


def _fft_to_real(value: Complex, dims: Sequence[int], scaling: int, length: int) -> torch.Tensor:
    return fourier.to_real((value.real, value.imag), dims, scaling, length)


_TURNED: Mapping[str, Callable[..., Any]] = {
    "squeeze_": lambda value, dim: value.parts.squeeze_(axis(value, dim)),
    "t_": lambda value: value.parts.transpose_(0, 1),
    "transpose_": lambda value, *dims: value.parts.transpose_(*(axis(value, dim) for dim in dims)),
    "unsqueeze_": lambda value, dim: value.parts.unsqueeze_(axis(value, dim, 1)),
}
"""Operations that change the shape of a tensor in its place."""

_MAKERS = frozenset({"view_as_complex", "complex", "polar", "_fft_r2c"})
"""Operations that make complex numbers of real ones."""

_RULES: Mapping[str, Callable[..., Any]] = {
    "_fft_c2c": _fft,
    "_fft_c2r": _fft_to_real,
    "_fft_r2c": _fft_of_real,
    **arithmetic.RULES,
    **making.RULES,
    **shapes.RULES,
}
"""By the name of an operator, what computes it. Those that write into a tensor follow from the others."""
