"""Functions that make one element of many, and running sums."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from fedplan.plan.variants.tfjs.vocabulary.values import Axis, Value, as_tensor, axes_of, of_rank, truth


def reduction(function: Callable[..., Tensor], number: bool = True) -> Callable[..., Tensor]:
    """Along some axes, or all; truth values count as integers where a number is made of them."""

    def call(value: Value, axis: Axis = None, keep: bool = False) -> Tensor:
        tensor = as_tensor(value)
        if number and tensor.dtype == torch.bool:
            tensor = tensor.to(torch.int32)
        axes = axes_of(axis, tensor.dim())
        return function(tensor, axes, keep).to(tensor.dtype) if axes else tensor

    return call


def mean(value: Value, axis: Axis = None, keep: bool = False) -> Tensor:
    """In float32, each element divided before they are added."""
    tensor = as_tensor(value).to(torch.float32)
    axes = axes_of(axis, tensor.dim())
    count = math.prod(tensor.shape[a] for a in axes)
    return (tensor / count).sum(axes, keep) if axes else tensor


def product(tensor: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    """Along several axes."""
    for axis in sorted(axes, reverse=True):
        tensor = tensor.prod(axis, keep)
    return tensor


def all_of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Of truth values."""

    def call(value: Tensor, axis: Axis = None, keep: bool = False) -> Tensor:
        tensor = truth(value)
        axes = axes_of(axis, tensor.dim())
        return function(tensor, axes, keep) if axes else tensor

    return call


def place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Where an extreme is along an axis."""
    return lambda value, axis=0: function(as_tensor(value), axis).to(torch.int32)


def cumsum(value: Value, axis: int = 0, exclusive: bool = False, backward: bool = False) -> Tensor:
    """The sum up to each element along an axis, itself included or not, from the front or from the end."""
    tensor = of_rank(value, 4)
    if tensor.dtype == torch.bool:
        raise TypeError("backends of tfjs differ in the dtype of a running sum of truth values")
    if axis < tensor.dim() - 2:
        raise ValueError("tfjs mixes up the axes of a running sum along others than the last two")
    ordered = tensor.flip(axis) if backward else tensor
    total = ordered.cumsum(axis).to(tensor.dtype)
    total = total - ordered if exclusive else total
    return total.flip(axis) if backward else total
