"""The same elements under another shape, and new tensors like others."""

from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Value
from fedplan.plan.ops import dtype_name


def reshaped(lift: Lifting, value: Value, *_: Any) -> Made:
    """Each client's part in the shape that is expected, whatever says which one."""
    return lift.shaped(value, tuple(lift.expected[0].shape))


def permuted(lift: Lifting, value: Value, dims: tuple[int, ...]) -> Made:
    """Clients stay in front."""
    return lift.permuted(value, [dim % max(value.rank, 1) for dim in dims])


def exchanged(lift: Lifting, value: Value, first: int = 0, second: int = 1) -> Made:
    """`t` and `transpose`."""
    order = list(range(value.rank))
    if value.rank > 1 or (first, second) != (0, 1):
        order[first], order[second] = order[second], order[first]
    return lift.permuted(value, order)


def expanded(lift: Lifting, value: Value, *_: Any) -> Made:
    """The expected shape, in which nothing is copied."""
    shape = tuple(lift.expected[0].shape)
    if not value.apart:
        return lift.aten("expand.default", value, shape, apart=False)
    return lift.aten("expand.default", lift.aligned(value, len(shape)), (-1, *shape))


def filled(number: float | None) -> Any:
    """`full_like` and its kin: they read a shape alone, so what they make is the same for all clients."""

    def rule(lift: Lifting, value: Value, *rest: Any) -> Made:
        meta = lift.expected[0]
        fill = rest[0] if number is None else number
        return lift.aten("full.default", tuple(meta.shape), fill, dtype_name(meta.dtype), apart=False)

    return rule


def repeated(lift: Lifting, value: Value, times: tuple[int, ...]) -> Made:
    """Each client's part so often along each dimension."""
    return lift.again(lift.aligned(value, len(times)), (1, *times))


def as_it_is(lift: Lifting, *args: Any) -> Made:
    """For operations on the last dimensions, which take any number of dimensions before them.

    Clients come first, and the dimensions of a client's part that stand before the last ones are aligned.
    """
    rank = max(arg.rank for arg in args if isinstance(arg, Value))
    return lift.again(
        *(lift.aligned(lift.whole(arg), rank) if isinstance(arg, Value) else arg for arg in args)
    )
