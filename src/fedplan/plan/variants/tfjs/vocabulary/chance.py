"""Functions that draw random numbers, answered with numbers that are given."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from fedplan.plan.variants.tfjs.vocabulary.values import Value, as_tensor

BELOW_ONE = 1 - 2.0**-24
"""Where uniform numbers end: tfjs rounds what is just below one up to it, and this down."""


def dropout(u: Tensor, value: Value, rate: float) -> Tensor:
    """Zero where a uniform number is below the rate, and scaled elsewhere."""
    tensor = as_tensor(value)
    if tensor.dtype != torch.float32 or not 0 < rate < 1:
        raise ValueError(f"versions of tfjs differ in dropout of {tensor.dtype} at the rate {rate}")
    return tensor * (_fitted(u, tensor.shape) >= rate) / (1 - rate)


def uniform(u: Tensor, shape: Sequence[int], low: float, high: float) -> Tensor:
    """From zero to one."""
    if (low, high) != (0, BELOW_ONE):
        raise ValueError(f"uniform numbers from {low} to {high}: those from 0 to {BELOW_ONE} are given")
    return _fitted(u, shape)


def normal(z: Tensor, shape: Sequence[int]) -> Tensor:
    """Of the mean 0 and the variance 1."""
    return _fitted(z, shape)


def _fitted(numbers: Tensor, shape: Sequence[int]) -> Tensor:
    if tuple(numbers.shape) != tuple(shape):
        raise ValueError(
            f"numbers of the shape {tuple(shape)} are drawn, and {tuple(numbers.shape)} are given"
        )
    return numbers


DRAWS: Mapping[str, Callable[..., Tensor]] = {
    "dropout": dropout,
    "randomUniform": uniform,
    "randomNormal": normal,
}
"""Functions of the `tf` namespace that draw, by name; each takes the numbers before its own arguments."""
