"""Rules for many elements that become one: sums, means, extremes, and where they are."""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import (
    FOLDED,
    Operand,
    Rule,
    Translator,
    UnsayableError,
    axes_of,
    axis_of,
    fold,
    integer,
)


def _whole(command: str, *, dtype: str | None = None) -> Rule:
    """Over all elements; in the result's dtype, or a given one."""

    def rule(t: Translator, node: Node) -> Term:
        return t.call(command, t.tensor(node.args[0], dtype or t.result_dtype(node)))

    return rule


def _along(command: str, *, dtype: str | None = None) -> Rule:
    """Along some dimensions; the arguments are (value, dims, keepdim, …)."""

    def rule(t: Translator, node: Node) -> Term:
        value, dims, keep = padded(node)[:3]
        axes = axes_of(dims, len(t.shape(value)))
        term = t.tensor(value, dtype or t.result_dtype(node))
        return t.call(command, term, axes, bool(keep)) if axes else term

    return rule


def _position(command: str) -> Rule:
    """Where the extreme is, along one dimension or in the flattened tensor."""

    def rule(t: Translator, node: Node) -> Term:
        value, dim, keep = padded(node)
        term, shape = t.tensor(value), t.shape(value)
        if not shape:
            return t.call("scalar", 0, "int32")
        if dim is None:
            term = t.call(command, t.call("reshape", term, (-1,)), 0)
        else:
            term = t.call(command, term, integer(dim) % len(shape))
        return t.reshape(term, t.result_shape(node)) if keep else term

    return rule


def _extreme_and_position(extreme: str, position: str) -> Rule:
    def rule(t: Translator, node: Node) -> tuple[Term, Term]:
        value, dim, keep = padded(node)
        term = t.tensor(value)
        if not t.shape(value):
            return term, t.call("scalar", 0, "int32")
        axis = integer(dim) % len(t.shape(value))
        place = t.call(position, term, axis)
        found = t.call(extreme, term, (axis,), bool(keep))
        return found, t.reshape(place, t.result_shape(node, 1)) if keep else place

    return rule


def _variance(t: Translator, node: Node) -> Term:
    """The sum of squared deviations over their number less the correction."""
    value, dims, correction, keep = padded(node)
    term, shape = t.tensor(value, "float32"), t.shape(value)
    axes = axes_of(dims, len(shape))
    deviation = t.call("sub", term, t.call("mean", term, axes, True))
    squares = t.call("sum", t.call("square", deviation), axes, bool(keep))
    less = 1 if correction is None else correction
    if not isinstance(less, int | float):
        raise UnsayableError("Its correction depends on the batch size.")
    count: Operand = t.count(term, shape, axes)
    divisor = t.call("sub", count, float(less)) if isinstance(count, Term) else float(count) - less
    return t.call("div", squares, divisor)


def _cumulated(t: Translator, node: Node) -> Term:
    """Along one of the last two dimensions: tfjs mixes up the dimensions when it moves another there."""
    value, dim = node.args[:2]
    shape, term = t.shape(value), t.tensor(value, t.result_dtype(node))
    if not shape:
        return term
    axis = axis_of(dim, shape)
    if axis >= len(shape) - 2 and len(shape) <= FOLDED:
        return t.call("cumsum", term, axis)
    return t.reshape(t.call("cumsum", t.reshape(term, fold(shape, axis)), 1), shape)


RULES: Mapping[str, Rule] = {
    "aten.sum.default": _whole("sum"),
    "aten.mean.default": _whole("mean"),
    "aten.max.default": _whole("max"),
    "aten.min.default": _whole("min"),
    "aten.prod.default": _whole("prod"),
    "aten.any.default": _whole("any", dtype="bool"),
    "aten.all.default": _whole("all", dtype="bool"),
    "aten.sum.dim_IntList": _along("sum"),
    "aten.mean.dim": _along("mean"),
    "aten.amax.default": _along("max"),
    "aten.amin.default": _along("min"),
    "aten.prod.dim_int": _along("prod"),
    "aten.any.dim": _along("any", dtype="bool"),
    "aten.any.dims": _along("any", dtype="bool"),
    "aten.all.dim": _along("all", dtype="bool"),
    "aten.max.dim": _extreme_and_position("max", "argMax"),
    "aten.min.dim": _extreme_and_position("min", "argMin"),
    "aten.argmax.default": _position("argMax"),
    "aten.argmin.default": _position("argMin"),
    "aten.var.correction": _variance,
    "aten.cumsum.default": _cumulated,
}
"""By the name of the operation."""
