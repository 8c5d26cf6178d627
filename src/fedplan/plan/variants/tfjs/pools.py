"""Rules for pools.

Their gradients are said element by element of the window: what each is owed, put where it came from.
"""

import functools
from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Extent, Rule, Translator, UnsayableError
from fedplan.plan.variants.tfjs.windows import (
    Pair,
    Window,
    channels_last,
    channels_of,
    channels_second,
    corner,
    each,
    framed,
    pair,
    plane,
    spread_out,
)


def _pool_window(t: Translator, value: Arg, made: tuple[Extent, ...], arguments: list[Arg]) -> Window:
    """The window of a pool; `arguments` are (kernel, stride, padding, dilation, ceil_mode)."""
    kernel, stride, padding, dilation, ceiling = arguments
    if ceiling:
        raise UnsayableError("tfjs rounds the size of its result down; leave ceil_mode out.")
    size = pair(kernel)
    return Window(size, pair(stride, size), pair(padding), pair(dilation), plane(t.shape(value)), plane(made))


_BATCH_AND_CHANNELS = 0b1001
"""Axes of a (batch, height, width, channels) tensor that a strided slice takes whole."""


def _beneath(t: Translator, picture: Term, window: Window, row: int, column: int) -> Term:
    """For each place of the window, its element in this row and column; the picture is padded."""
    begin = (row * window.dilation[0], column * window.dilation[1])
    end = each(lambda axis: begin[axis] + window.span[axis])
    whole = _BATCH_AND_CHANNELS
    return t.call("stridedSlice", picture, (0, *begin, 0), (0, *end, 0), (1, *window.stride, 1), whole, whole)


def _returned(t: Translator, parts: Mapping[Pair, Term], window: Window, channels: int) -> Term:
    """The picture's gradient: what each element of the window is owed, added up where it came from."""
    placed = []
    for (row, column), part in parts.items():
        spread = spread_out(t, part, window.stride, window.places, channels)
        before = (row * window.dilation[0], column * window.dilation[1])
        missing = each(lambda axis: window.padded[axis] - window.span[axis])
        after = (missing[0] - before[0], missing[1] - before[1])
        placed.append(framed(t, spread, before, after))
    total = functools.reduce(lambda left, right: t.call("add", left, right), placed)
    if window.padding != (0, 0):
        total = corner(t, total, window.padding, window.picture)
    return channels_second(t, total)


def _places(window: Window) -> list[Pair]:
    return [(row, column) for row in range(window.size[0]) for column in range(window.size[1])]


_LOWEST = float(-(2.0**127))
"""Less than any number that a picture holds; tfjs has no way to write minus infinity around one."""


def _max_pool(t: Translator, node: Node) -> tuple[Term, None]:
    value, *arguments = padded(node)
    window = _pool_window(t, value, t.result_shape(node), arguments)
    return channels_second(t, _maxima(t, _framed(t, value, window), window)), None


def _framed(t: Translator, value: Arg, window: Window) -> Term:
    return framed(t, channels_last(t, value), window.padding, window.padding, _LOWEST)


def _maxima(t: Translator, picture: Term, window: Window) -> Term:
    if window.dilation == (1, 1):
        return t.call("maxPool", picture, window.size, window.stride, "valid")
    first, *others = (_beneath(t, picture, window, row, column) for row, column in _places(window))
    for other in others:
        first = t.call("maximum", first, other)
    return first


def _max_pool_gradient(t: Translator, node: Node) -> Term:
    """Goes to the first element of each window that is its maximum, as in PyTorch."""
    grad, value, *arguments, _ = padded(node)
    window = _pool_window(t, value, t.shape(grad), arguments)
    picture, slope = _framed(t, value, window), channels_last(t, grad)
    highest = _maxima(t, picture, window)
    parts: dict[Pair, Term] = {}
    free: Term | None = None  # places whose maximum has not been met yet
    for row, column in _places(window):
        hit = t.call("equal", _beneath(t, picture, window, row, column), highest)
        if free is not None:
            hit = t.call("logicalAnd", hit, free)
        met = t.call("logicalNot", hit)
        free = met if free is None else t.call("logicalAnd", free, met)
        parts[row, column] = t.call("mul", slope, t.call("cast", hit, "float32"))
    return _returned(t, parts, window, channels_of(t.shape(grad)))


def _mean_window(t: Translator, value: Arg, made: tuple[Extent, ...], arguments: list[Arg]) -> Window:
    """`arguments` are (kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)."""
    kernel, stride, padding, ceiling, counted, divisor = arguments
    window = _pool_window(t, value, made, [kernel, stride, padding, 1, ceiling])
    if divisor is not None or (not counted and window.padding != (0, 0)):
        raise UnsayableError("Only an average over the whole window can be said; use count_include_pad=True.")
    return window


def _average_pool(t: Translator, node: Node) -> Term:
    value, *arguments = padded(node)
    window = _mean_window(t, value, t.result_shape(node), arguments)
    return _averages(t, value, window)


def _averages(t: Translator, value: Arg, window: Window) -> Term:
    picture = framed(t, channels_last(t, value), window.padding, window.padding)
    return channels_second(t, t.call("avgPool", picture, window.size, window.stride, "valid"))


def _average_pool_gradient(t: Translator, node: Node) -> Term:
    grad, value, *arguments = padded(node)
    return _shared(t, grad, _mean_window(t, value, t.shape(grad), arguments))


def _shared(t: Translator, grad: Arg, window: Window) -> Term:
    """Each element of a window gets the same share."""
    share = t.call("mul", channels_last(t, grad), 1 / (window.size[0] * window.size[1]))
    return _returned(t, dict.fromkeys(_places(window), share), window, channels_of(t.shape(grad)))


def _even_window(t: Translator, value: Arg, made: tuple[Extent, ...]) -> Window:
    """The window of an adaptive pool whose pieces are equal."""
    picture, places = plane(t.shape(value)), plane(made)
    if any(picture[axis] % places[axis] for axis in (0, 1)):
        raise UnsayableError(f"A picture of {picture} does not divide evenly into {places} pieces.")
    size = each(lambda axis: picture[axis] // places[axis])
    return Window(size, size, (0, 0), (1, 1), picture, places)


def _adaptive_pool(t: Translator, node: Node) -> Term:
    return _averages(t, node.args[0], _even_window(t, node.args[0], t.result_shape(node)))


def _adaptive_pool_gradient(t: Translator, node: Node) -> Term:
    grad, value = node.args
    return _shared(t, grad, _even_window(t, value, t.shape(grad)))


RULES: Mapping[str, Rule] = {
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max_pool2d_with_indices_backward.default": _max_pool_gradient,
    "aten.avg_pool2d.default": _average_pool,
    "aten.avg_pool2d_backward.default": _average_pool_gradient,
    "aten._adaptive_avg_pool2d.default": _adaptive_pool,
    "aten._adaptive_avg_pool2d_backward.default": _adaptive_pool_gradient,
}
"""By the name of the operation."""
