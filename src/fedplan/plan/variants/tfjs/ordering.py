"""Rules for sorting. syft.js takes no tensors of functions that return two, so each pair is compared."""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.gathering import pick
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    axis_of,
    integer,
    product,
)

_MOST = 1024
"""The most numbers in a row that are sorted."""


def _order(t: Translator, term: Term, shape: tuple[Extent, ...], axis: int, descending: bool) -> Term:
    """Where the first, second … number along an axis is; of equal ones the earlier comes first."""
    others = [i for i in range(len(shape)) if i != axis]
    count, rows = shape[axis], product([shape[i] for i in others])
    if not isinstance(count, Varying) and count > _MOST:
        raise UnsayableError(f"It sorts {count} numbers, of which tfjs would compare each pair.")
    moved = t.transpose(term, (*others, axis))
    down, across = (t.reshape(moved, (rows, *pair)) for pair in ((count, 1), (1, count)))
    places = t.counted(count)
    earlier = t.call("less", places, t.reshape(places, (count, 1)))  # the second of a pair, by its place
    ahead = t.call("greater" if descending else "less", across, down)
    ties = t.call("logicalAnd", t.call("equal", across, down), earlier)
    rank = t.call("sum", t.call("cast", t.call("logicalOr", ahead, ties), "int32"), (2,))  # (rows, count)
    hot = t.call("equal", t.reshape(rank, (rows, count, 1)), places)
    found = t.call("mul", t.call("cast", hot, "int32"), t.reshape(places, (count, 1)))
    order = t.reshape(t.call("sum", found, (1,)), [shape[i] for i in (*others, axis)])
    return t.transpose(order, [(*others, axis).index(i) for i in range(len(shape))])


def _sort(t: Translator, node: Node) -> tuple[Term, Term]:
    value, dim, descending = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    if not shape:
        return term, t.call("scalar", 0, "int32")
    axis = axis_of(dim, shape)
    order = _order(t, term, shape, axis, bool(descending))
    return pick(t, term, shape, axis, order, shape), order


def _topk(t: Translator, node: Node) -> tuple[Term, Term]:
    value, count, dim, largest, _ = padded(node)
    shape, term, made = t.shape(value), t.tensor(value), t.result_shape(node)
    if not shape:
        return term, t.call("scalar", 0, "int32")
    axis = axis_of(dim, shape)
    if count == 1:
        extreme, position = ("max", "argMax") if largest else ("min", "argMin")
        return t.call(extreme, term, (axis,), True), t.reshape(t.call(position, term, axis), made)
    order = _order(t, term, shape, axis, bool(largest))
    sizes = tuple(integer(count) if i == axis else -1 for i in range(len(shape)))
    first = t.call("slice", order, (0,) * len(shape), sizes)
    return pick(t, term, shape, axis, first, made), first


RULES: Mapping[str, Rule] = {"aten.sort.default": _sort, "aten.topk.default": _topk}
"""By the name of the operation."""
