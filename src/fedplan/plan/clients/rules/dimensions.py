"""Operations along dimensions that they are told by number: each number grows by one."""

import math
from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Rule, Value
from fedplan.plan.ops import row

_NAMES = ("dim", "dims", "dim0", "dim1", "dim2", "dimension")


def along(lift: Lifting, *args: Any) -> Made:
    """Along one or several dimensions that must be named."""
    return _moved(lift, [_with_dimension(lift, arg) for arg in args])


def over(lift: Lifting, value: Value, *rest: Any) -> Made:
    """Over the dimensions that are named; over all of each client's part when none is."""
    args = [_with_dimension(lift, value), *rest]
    place = _places(lift.op)[0]
    if args[place] in (None, ()):
        args[0] = flat(lift, value)
        args[place] = 0 if "List" not in row(lift.op).arguments[place].type else (0,)
    return _moved(lift, args)


def flat(lift: Lifting, value: Value) -> Value:
    """Each client's part as a list."""
    return lift.shaped(value, (math.prod(value.shape),))


def entire(op: str, *others: Any) -> Rule:
    """Over all of each client's part, as another operation over one dimension says it.

    Args:
        op: that operation, without the ``aten.`` before it.
        others: its arguments after the dimension and before those that the operation itself has.
    """

    def rule(lift: Lifting, value: Value, *rest: Any) -> Made:
        listed = "List" in row(f"aten.{op}").arguments[1].type
        dims = (1,) if listed else 1
        return (lift.emit_all(f"aten.{op}", flat(lift, value), dims, *others, *rest)[0],)

    return rule


def norm(lift: Lifting, value: Value, power: Any) -> Made:
    """`norm.Scalar`, of each client's part."""
    return lift.aten("norm.ScalarOpt_dim", flat(lift, value), power, (1,))


def _moved(lift: Lifting, args: list[Any]) -> Made:
    rank = max(arg.rank for arg in args if isinstance(arg, Value))
    for place in _places(lift.op):
        args[place] = shifted(args[place], rank)
    return lift.fitting(lift.again(*(_whole(lift, arg) for arg in args)))


def shifted(dims: Any, rank: int) -> Any:
    """Numbers of dimensions of a client's part of this rank, as those of the whole."""
    if isinstance(dims, tuple):
        return tuple(shifted(dim, rank) for dim in dims)
    return dims % max(rank, 1) + 1


def _whole(lift: Lifting, arg: Any) -> Any:
    if isinstance(arg, Value):
        return lift.whole(arg)
    return tuple(_whole(lift, item) for item in arg) if isinstance(arg, tuple) else arg


def _with_dimension(lift: Lifting, arg: Any) -> Any:
    """One number becomes a list of one: it has a dimension then, as PyTorch supposes of it."""
    return lift.shaped(arg, (1,)) if isinstance(arg, Value) and not arg.rank else arg


def _places(op: str) -> list[int]:
    """Where an operation's arguments have dimensions."""
    return [place for place, argument in enumerate(row(op).arguments) if argument.name in _NAMES]


def joined(lift: Lifting, values: tuple[Value, ...], dim: int) -> Made:
    """`cat`. An empty list may be among tensors of any rank, and is left out."""
    rank = max(value.rank for value in values)
    parts = [value for value in values if value.rank == rank]
    return lift.again(tuple(lift.whole(value) for value in parts), shifted(dim, rank))


def stacked(lift: Lifting, values: tuple[Value, ...], dim: int) -> Made:
    """`stack`, along a new dimension."""
    return lift.again(tuple(lift.whole(value) for value in values), shifted(dim, values[0].rank + 1))
