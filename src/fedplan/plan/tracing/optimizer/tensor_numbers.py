"""Keeping an optimizer's numbers in tensors while it is traced, where it would read them into Python."""

import contextlib
import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode


class _Rewriting(TorchFunctionMode):
    """Numbers such as the learning rate stay tensors where an optimizer would read them.

    ``p.add_(g, alpha=-lr)`` becomes ``p.add_(g * -lr)``, and so with a `value` and with a number to fill by;
    ``t.item()`` is ``t``. What Adam and others divide by, ``1 - beta**t``, is ``-expm1(t * log(beta))``: for
    the difference a float32 near one has too few digits, and outside of a Plan it is computed in float64.
    """

    def __init__(self) -> None:
        super().__init__()
        self._powers: list[tuple[torch.Tensor, torch.Tensor]] = []  # each with the logarithm of itself

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        given = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        alpha, value = given.get("alpha"), given.get("value")
        if isinstance(alpha, torch.Tensor) and name.rstrip("_") in {"add", "sub"}:
            return func(args[0], _scaled(args[1], given.pop("alpha"), args[0]), **given)
        if isinstance(value, torch.Tensor) and name.rstrip("_") in {"addcmul", "addcdiv"}:
            return func(args[0], _scaled(args[1], given.pop("value"), args[0]), *args[2:], **given)
        if name in {"__rpow__", "pow"} and (found := _power(args)) is not None:
            base, exponent = found
            made = func(*args, **given)
            self._powers.append((made, exponent * math.log(base)))
            return made
        if name in {"__rsub__", "rsub"} and args[1] == 1:
            for power, logarithm in self._powers:
                if power is args[0]:
                    return -torch.expm1(logarithm)
        if name == "item":
            return args[0].reshape(())
        if name == "full_like" and isinstance(args[1], torch.Tensor):
            return torch.zeros_like(args[0], **given) + args[1].detach()
        return func(*args, **given)


def _power(args: Sequence[Any]) -> tuple[float, torch.Tensor] | None:
    """Base and exponent of a number below one to the power of one number in a tensor."""
    for base, exponent in (args[:2], args[1::-1]):
        if (
            isinstance(base, float)
            and isinstance(exponent, torch.Tensor)
            and exponent.dim() == 0
            and 0 < base < 1
        ):
            return base, exponent
    return None


def _scaled(value: torch.Tensor, factor: torch.Tensor, into: torch.Tensor) -> torch.Tensor:
    """The product in the dtype of the sum that it is a part of."""
    return value.to(torch.promote_types(value.dtype, into.dtype)) * factor


@contextlib.contextmanager
def numbers_in_tensors(optimizer: Optimizer) -> Iterator[None]:
    """What holds while an optimizer steps: its numbers, such as the count of steps, stay in tensors.

    Optimizers see to that themselves while PyTorch is compiling. Where one compares such numbers with `min`
    and `max` of Python, these take tensors meanwhile.
    """
    compiler: Any = torch.compiler
    names: dict[str, Any] = inspect.unwrap(type(optimizer).step).__globals__
    before = {name: names[name] for name in _COMPARING if name in names}
    compiler_before = compiler._is_compiling_flag
    compiler._is_compiling_flag = True
    names.update(_COMPARING)
    try:
        with _Rewriting():
            yield
    finally:
        compiler._is_compiling_flag = compiler_before
        for name in _COMPARING:
            del names[name]
        names.update(before)


def _comparing(of_numbers: Callable[..., Any], of_tensors: Callable[..., torch.Tensor]) -> Callable[..., Any]:
    def call(*values: Any, **options: Any) -> Any:
        tensors = [value for value in values if isinstance(value, torch.Tensor)]
        if len(values) != 2 or not tensors:
            return of_numbers(*values, **options)
        whole = (v if isinstance(v, torch.Tensor) else torch.full_like(tensors[0], v) for v in values)
        return of_tensors(*whole)

    return call


_COMPARING = {"min": _comparing(min, torch.minimum), "max": _comparing(max, torch.maximum)}
