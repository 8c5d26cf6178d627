"""Normalisations: statistics are of each client's own elements, and so are scale and shift."""

from collections.abc import Sequence
from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Value


def batch_norm(lift: Lifting, value: Value, *rest: Any) -> Made:
    """Batch normalisation, with or without running statistics: clients become channels."""
    folded = (lift.by_rows(arg) if isinstance(arg, Value) else arg for arg in rest)
    given = (lift.by_channels(value), *folded)
    made = lift.emit_all(lift.op, *given, apart=False)
    return _from_channels(lift, made, value.shape[1])


def _from_channels(lift: Lifting, made: Sequence[Value | None], channels: int) -> Made:
    """The normalised value, and statistics: a number a channel, or none at all."""
    found: list[Value | None] = []
    for part, meta in zip(made, lift.expected, strict=True):
        if part is None or meta is None:
            found.append(None)
        elif meta.dim() > 1:
            found.append(lift.from_channels(part, channels))
        elif meta.numel():
            found.append(lift.from_rows(part, channels))
        else:
            found.append(lift.without_elements(part, meta))
    return found


def batch_norm_backward(lift: Lifting, gradient: Value, value: Value, *rest: Any) -> Made:
    """Its gradients; statistics that were not saved have no elements."""
    folded = (lift.by_rows(arg) if isinstance(arg, Value) and arg.meta.numel() else arg for arg in rest)
    given = (lift.by_channels(gradient), lift.by_channels(value), *folded)
    return _from_channels(lift, lift.emit_all(lift.op, *given, apart=False), value.shape[1])


def layer_norm(
    lift: Lifting,
    value: Value,
    shape: Sequence[int],
    weight: Value | None,
    bias: Value | None,
    eps: float,
) -> Made:
    """`native_layer_norm` over the last dimensions."""
    if not _any_apart(weight, bias):
        return lift.again(value, shape, weight, bias, eps)
    made, mean, rstd = lift.emit_all(lift.op, value, shape, None, None, eps, apart=value.apart)
    assert made is not None
    return _scaled(lift, made, weight, bias), mean, rstd


def _any_apart(*values: Value | None) -> bool:
    return any(value is not None and value.apart for value in values)


def _scaled(lift: Lifting, value: Value, weight: Value | None, bias: Value | None) -> Value:
    """A value times a weight plus a bias, each of which may be None."""
    for op, factor in (("mul.Tensor", weight), ("add.Tensor", bias)):
        if factor is not None:
            aligned = [lift.aligned(value, max(value.rank, factor.rank)), lift.aligned(factor, value.rank)]
            value = lift.aten(op, *aligned, apart=_any_apart(value, factor))
    return value


def layer_norm_backward(
    lift: Lifting,
    gradient: Value,
    value: Value,
    shape: Sequence[int],
    mean: Value,
    rstd: Value,
    weight: Value | None,
    bias: Value | None,
    wanted: Sequence[bool],
) -> Made:
    """Gradients of value, weight and bias."""
    outer = range(value.rank - len(shape))
    given = [lift.whole(value), lift.solid(mean), lift.solid(rstd)]
    of_value = of_weight = of_bias = None
    if wanted[0]:
        scaled = lift.whole(_scaled(lift, gradient, weight, None))
        args = (scaled, given[0], shape, *given[1:], None, None, (True, False, False))
        of_value = lift.emit_all(lift.op, *args)[0]
    whole = lift.whole(gradient)
    if wanted[1]:
        normal = lift.aten("sub.Tensor", given[0], given[1])
        normal = lift.aten("mul.Tensor", normal, given[2])
        of_weight = _summed(lift, lift.aten("mul.Tensor", normal, whole), outer)
    if wanted[2]:
        of_bias = _summed(lift, whole, outer)
    return of_value, of_weight, of_bias


def _summed(lift: Lifting, value: Value, dims: Sequence[int]) -> Value:
    """The sum over these dimensions of each client's part."""
    if not dims:
        return value
    return lift.aten("sum.dim_IntList", value, tuple(dim + 1 for dim in dims))


def group_norm(
    lift: Lifting,
    value: Value,
    weight: Value | None,
    bias: Value | None,
    n: int,
    channels: int,
    places: int,
    groups: int,
    eps: float,
) -> Made:
    """`native_group_norm`: clients become rows."""
    rows = lift.by_rows(value)
    split = _any_apart(weight, bias)
    given = (None, None) if split else (weight, bias)
    made = lift.emit_all(lift.op, rows, *given, lift.times(n), channels, places, groups, eps, apart=False)
    whole, mean, rstd = (None if part is None else lift.from_rows(part, n) for part in made)
    assert whole is not None
    if split:
        whole = _scaled(lift, whole, *(_by_channel(lift, part, whole.rank) for part in (weight, bias)))
    return whole, mean, rstd


def _by_channel(lift: Lifting, numbers: Value | None, rank: int) -> Value | None:
    """A number a channel, in a shape that broadcasts with (n, channels, …)."""
    return None if numbers is None else lift.shaped(numbers, (*numbers.shape, *(1,) * (rank - 2)))


def group_norm_backward(
    lift: Lifting,
    gradient: Value,
    value: Value,
    mean: Value,
    rstd: Value,
    weight: Value | None,
    n: int,
    channels: int,
    places: int,
    groups: int,
    wanted: Sequence[bool],
) -> Made:
    """Gradients of value, weight and bias."""
    of_value = of_weight = of_bias = None
    gradient, value = lift.whole(gradient), lift.whole(value)
    if wanted[0]:
        scaled = _scaled(lift, gradient, _by_channel(lift, weight, value.rank), None)
        rows = [lift.by_rows(arg) for arg in (scaled, value, mean, rstd)]
        args = (*rows, None, lift.times(n), channels, places, groups, (True, False, False))
        made = lift.emit_all(lift.op, *args, apart=False)[0]
        assert made is not None
        of_value = lift.from_rows(made, n)
    dims = (0, *range(2, value.rank))
    if wanted[1]:
        grouped = lift.shaped(value, (n, groups, channels // groups * places))
        statistics = [lift.shaped(lift.whole(arg), (n, groups, 1)) for arg in (mean, rstd)]
        normal = lift.aten("sub.Tensor", grouped, statistics[0])
        normal = lift.shaped(lift.aten("mul.Tensor", normal, statistics[1]), value.shape)
        of_weight = _summed(lift, lift.aten("mul.Tensor", normal, gradient), dims)
    if wanted[2]:
        of_bias = _summed(lift, gradient, dims)
    return of_value, of_weight, of_bias
