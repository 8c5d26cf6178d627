"""Rules for pools. Their gradients are said with slices and sums first (`expansions`)."""

import functools
from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.variants.expansions.pools import LOWEST
from fedplan.plan.variants.expansions.windows import Window
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Rule, Translator
from fedplan.plan.variants.tfjs.windows import (
    beneath,
    channels_last,
    channels_second,
    each,
    extents,
    framed,
)


def _max_pool(t: Translator, node: Node) -> tuple[Term, Term | None]:
    value, kernel, stride, padding, dilation, _ = padded(node)
    size = each(kernel, 2)
    window = Window(
        size,
        each(stride, 2, size),
        each(padding, 2),
        each(dilation, 2),
        extents(t.shape(value), 2),
        extents(t.result_shape(node), 2),
    )
    frame = framed(t, t.tensor(value, "float32"), t.shape(value), window, LOWEST)
    if window.dilation == (1, 1):
        pooled = t.call("maxPool", channels_last(t, frame, 2), window.size, window.stride, "valid")
        highest = channels_second(t, pooled, 2)
    else:
        elements = (beneath(t, frame, window, tap) for tap in window.taps)
        highest = functools.reduce(lambda left, right: t.call("maximum", left, right), elements)
    return highest, _indices(t, frame, highest, window) if node.results[1] in t.used else None


def _indices(t: Translator, frame: Term, highest: Term, window: Window) -> Term:
    """Where the first of the maxima lies in the flattened picture, for each place of the window."""
    width = window.picture[1]
    rows, columns = (
        t.call("range", -p * unit, (s * n - p) * unit, s * unit, "int32")
        for p, s, n, unit in zip(window.padding, window.stride, window.places, (width, 1), strict=True)
    )
    corner = t.call("add", t.reshape(rows, (window.places[0], 1)), columns)  # of the window, at each place
    found: Term | None = None
    free: Term | None = None  # places whose maximum has not been met yet
    for row, column in window.taps:
        hit = t.call("equal", beneath(t, frame, window, (row, column)), highest)
        if free is not None:
            hit = t.call("logicalAnd", hit, free)
        met = t.call("logicalNot", hit)
        free = met if free is None else t.call("logicalAnd", free, met)
        behind = row * window.dilation[0] * width + column * window.dilation[1]
        index = t.call("add", corner, t.call("scalar", behind, "int32"))
        index = t.call("mul", t.call("cast", hit, "int32"), index)
        found = index if found is None else t.call("add", found, index)
    assert found is not None  # a window has at least one element
    return found


def _average_pool(t: Translator, node: Node) -> Term:
    """Of windows without padding."""
    value, kernel, stride = padded(node)[:3]
    extents(t.shape(value), 2)
    size = each(kernel, 2)
    picture = channels_last(t, t.tensor(value, "float32"), 2)
    return channels_second(t, t.call("avgPool", picture, size, each(stride, 2, size), "valid"), 2)


RULES: Mapping[str, Rule] = {
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.avg_pool2d.default": _average_pool,
}
"""By the name of the operation."""
