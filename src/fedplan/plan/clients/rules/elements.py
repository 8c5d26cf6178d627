"""Operations element by element: shapes are aligned, and numbers of one element keep their lower rank."""

import functools
import math
from typing import Any

import torch

from fedplan.plan.clients.lifting import Lifting, Made, Value
from fedplan.plan.ops import dtype_name, row


def pointwise(lift: Lifting, *args: Any) -> Made:
    """Broadcasting begins at the last dimension, so each client's part gets ones before its shape."""
    tensors = [arg for arg in args if isinstance(arg, Value)]
    rank = max(value.rank for value in tensors)
    dtype = _changed_dtype(tensors)
    return lift.again(
        *(lift.aligned(_as(lift, arg, dtype), rank) if isinstance(arg, Value) else arg for arg in args)
    )


def unbroadcast(lift: Lifting, *args: Any) -> Made:
    """For kernels that want all tensors in one shape."""
    return lift.again(*(lift.solid(arg) if isinstance(arg, Value) else arg for arg in args))


def _changed_dtype(tensors: list[Value]) -> torch.dtype | None:
    """The dtype that one client would compute in, where many would compute in another.

    A tensor of no dimensions does not decide the dtype; with an axis of clients it would.
    """
    alone = _common([(value.meta.dtype, value.rank) for value in tensors])
    together = _common([(value.meta.dtype, value.meta.dim()) for value in tensors])
    return alone if alone != together else None


def _common(given: list[tuple[torch.dtype, int]]) -> torch.dtype:
    """The dtype to which tensors of these dtypes and ranks are promoted."""
    found: list[torch.Tensor] = []
    for some in (True, False):
        dtypes = [dtype for dtype, rank in given if bool(rank) is some]
        if dtypes:
            dtype = functools.reduce(torch.promote_types, dtypes)
            found.append(torch.empty((1,) * some, dtype=dtype, device="meta"))
    return torch.result_type(found[0], found[-1])


def _as(lift: Lifting, value: Value, dtype: torch.dtype | None) -> Value:
    if dtype is None or value.meta.dtype in (dtype, torch.bool):
        return value
    return lift.aten("_to_copy.default", value, dtype_name(dtype), apart=value.apart)


def loss(lift: Lifting, *args: Any) -> Made:
    """A loss with a number for each element or row, whose sum or mean is over each client's own."""
    place = [argument.name for argument in row(lift.op).arguments].index("reduction")
    reduction: int = args[place]
    rank = max(arg.rank for arg in args if isinstance(arg, Value))
    given = [lift.aligned(lift.whole(arg), rank) if isinstance(arg, Value) else arg for arg in args]
    given[place] = 0
    each = lift.emit(lift.op, *given)
    if reduction == 0:
        return each
    flat = lift.shaped(each, (math.prod(each.shape),))
    return lift.aten(("mean.dim", "sum.dim_IntList")[reduction - 1], flat, (1,))


def squared_difference_backward(
    lift: Lifting, gradient: Value, value: Value, target: Value, reduction: int
) -> Made:
    """2 (value - target) · gradient, divided by the number of each client's own elements for a mean."""
    value, target = _together(lift, value, target)
    count = math.prod(value.shape) if reduction == 1 else 1
    apart = value.apart or target.apart
    difference = lift.aten("sub.Tensor", value, target, apart=apart)
    scaled = lift.aten("mul.Tensor", difference, 2 / max(count, 1), apart=apart)
    return lift.aten("mul.Tensor", scaled, lift.aligned(gradient, len(difference.shape)))


def _together(lift: Lifting, *values: Value) -> list[Value]:
    rank = max(value.rank for value in values)
    return [lift.aligned(value, rank) for value in values]


def masked_fill(lift: Lifting, value: Value, mask: Value, fill: Value) -> Made:
    """With a number of its own for each client it is a choice between two tensors."""
    if not fill.apart:
        return pointwise(lift, value, mask, fill)
    value, mask, fill = _together(lift, value, mask, fill)
    fill = _as(lift, fill, value.meta.dtype)
    return lift.aten("where.self", mask, fill, value)
