"""Functions of single elements: arithmetic, comparison, logic, choice."""

from collections.abc import Callable

import torch
from torch import Tensor

from fedplan.plan.variants.tfjs.vocabulary.values import Value, as_tensor, matched, of_rank, truth


def arithmetic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Value, Value], Tensor]:
    """In the operands' common dtype."""

    def call(left: Value, right: Value) -> Tensor:
        a, b = matched(left, right)
        if a.dtype == torch.bool:
            raise TypeError("tfjs calculates with two truth values as with bytes; cast them first")
        return function(a, b).to(a.dtype)

    return call


def quotient(a: Tensor, b: Tensor) -> Tensor:
    """Of integers it is rounded down."""
    return a / b if a.dtype == torch.float32 else torch.div(a, b, rounding_mode="floor")


def comparison(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Value, Value], Tensor]:
    """Of the operands in their common dtype."""
    return lambda left, right: function(*matched(left, right))


def in_float32(function: Callable[[Tensor], Tensor]) -> Callable[[Value], Tensor]:
    """Computed in float32, whatever goes in."""
    return lambda value: function(as_tensor(value).to(torch.float32))


def erf(value: Value) -> Tensor:
    """Of what is not negative: tfjs-core 1.2.5 is wrong below zero."""
    tensor = as_tensor(value).to(torch.float32)
    if bool((tensor < 0).any()):
        raise ValueError("tfjs-core 1.2.5 has the error function for what is not negative only")
    return torch.erf(tensor)


def square(value: Value) -> Tensor:
    """Of fractions: versions of tfjs differ in the dtype of an integer's square."""
    tensor = as_tensor(value)
    if tensor.dtype != torch.float32:
        raise TypeError(f"versions of tfjs differ in the square of {tensor.dtype}")
    return tensor.square()


def logic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """Of truth values."""
    return lambda left, right: function(truth(left), truth(right))


def where(condition: Tensor, left: Value, right: Value) -> Tensor:
    """Of one shape and dtype."""
    a, b = of_rank(left, 4), of_rank(right, 4)
    if not a.shape == b.shape == condition.shape or a.dtype != b.dtype:
        raise ValueError("tfjs chooses between tensors of one shape and dtype")
    return torch.where(truth(condition), a, b)
