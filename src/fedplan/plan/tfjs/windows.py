"""Rules for convolutions and pools.

tfjs wants pictures as (batch, height, width, channels), PyTorch has the channels second. tfjs-core exports no
gradients of them; they are said with what it has: the gradient of a convolution's weight is a convolution of
the picture with the gradient, that of its input a convolution of the spread gradient with the turned weight.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping

from fedplan.plan.ir import Arg, Node
from fedplan.plan.tfjs.translation import (
    Extent,
    Rule,
    Term,
    Translation,
    UnsayableError,
    Varying,
    integer,
    integers,
)

Pair = tuple[int, int]
"""Vertical and horizontal."""

_CHANNELS_LAST = (0, 2, 3, 1)
_CHANNELS_SECOND = (0, 3, 1, 2)
_BATCH_AND_CHANNELS = 0b1001
"""Axes of a (batch, height, width, channels) tensor that a strided slice takes whole."""


@dataclasses.dataclass(frozen=True, slots=True)
class Window:
    """How a window moves over a picture.

    Attributes:
        size: of the window, in elements.
        stride: between two of its places.
        padding: zeros around the picture.
        dilation: between two of its elements.
        picture: height and width of the picture.
        places: how many places it has, vertically and horizontally.
    """

    size: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    picture: Pair
    places: Pair

    @property
    def reach(self) -> Pair:
        """Elements from the first to the last one under the window."""
        return _each(lambda axis: self.dilation[axis] * (self.size[axis] - 1) + 1)

    @property
    def span(self) -> Pair:
        """Elements from the first place's corner to the last one's."""
        return _each(lambda axis: self.stride[axis] * (self.places[axis] - 1) + 1)

    @property
    def padded(self) -> Pair:
        """Height and width of the picture with its padding."""
        return _each(lambda axis: self.picture[axis] + 2 * self.padding[axis])


def _each(number: Callable[[int], int]) -> Pair:
    return number(0), number(1)


def _pair(arg: Arg, default: Pair | None = None) -> Pair:
    if arg == () and default is not None:
        return default
    numbers = (arg,) if isinstance(arg, int) else integers(arg)
    return (integer(numbers[0]), integer(numbers[-1]))


def _plane(shape: tuple[Extent, ...]) -> Pair:
    """Height and width of a (batch, channels, height, width) shape."""
    if len(shape) != 4:
        raise UnsayableError("Only pictures of the shape (batch, channels, height, width) can be said.")
    height, width = shape[2:]
    if isinstance(height, Varying) or isinstance(width, Varying):
        raise UnsayableError("The size of its pictures depends on the batch size.")
    return height, width


def _channels(shape: tuple[Extent, ...]) -> int:
    if isinstance(shape[1], Varying):
        raise UnsayableError("The number of its channels depends on the batch size.")
    return shape[1]


def _last(t: Translation, arg: Arg) -> Term:
    return t.call("transpose", t.tensor(arg, "float32"), _CHANNELS_LAST)


def _second(t: Translation, term: Term) -> Term:
    return t.call("transpose", term, _CHANNELS_SECOND)


def _padded(t: Translation, term: Term, before: Pair, after: Pair, filler: float = 0.0) -> Term:
    """A picture with more rows and columns around it."""
    if not any((*before, *after)):
        return term
    pads = ((0, 0), (before[0], after[0]), (before[1], after[1]), (0, 0))
    return t.call("pad", term, pads, filler)


def _corner(t: Translation, term: Term, start: Pair, size: Pair) -> Term:
    return t.call("slice", term, (0, *start, 0), (-1, *size, -1))


def _spread(t: Translation, term: Term, stride: Pair, places: Pair, channels: int) -> Term:
    """A picture with zeros between its elements: as many as make it one element a stride apart."""
    rows, columns = places
    if stride[0] > 1:
        lines = t.call("reshape", term, (-1, 1, columns * channels))
        lines = t.call("pad", lines, ((0, 0), (0, stride[0] - 1), (0, 0)), 0.0)
        rows = places[0] * stride[0]
        term = t.call("reshape", lines, (-1, rows, columns, channels))
    if stride[1] > 1:
        points = t.call(
            "pad", t.call("reshape", term, (-1, 1, channels)), ((0, 0), (0, stride[1] - 1), (0, 0)), 0.0
        )
        columns = places[1] * stride[1]
        term = t.call("reshape", points, (-1, rows, columns, channels))
    if stride == (1, 1):
        return term
    return _corner(t, term, (0, 0), _each(lambda axis: stride[axis] * (places[axis] - 1) + 1))


# -- convolutions --------------------------------------------------------------------------------------


def _convolution_window(
    t: Translation, value: Arg, weight: Arg, made: tuple[Extent, ...], rest: list[Arg]
) -> Window:
    """`rest` is (stride, padding, dilation, transposed, output_padding, groups)."""
    stride, padding, dilation, transposed, _, groups = rest
    if transposed:
        raise UnsayableError(
            "Transposed convolutions cannot be said; repeat the elements and convolve instead."
        )
    if groups != 1:
        raise UnsayableError("Convolutions in groups cannot be said; use one convolution over all channels.")
    window = Window(
        _plane(t.shape(weight)),
        _pair(stride),
        _pair(padding),
        _pair(dilation),
        _plane(t.shape(value)),
        _plane(made),
    )
    if max(window.stride) > 1 and max(window.dilation) > 1:
        raise UnsayableError("tfjs has no convolution with both a stride and a dilation.")
    return window


def _convolve(t: Translation, picture: Term, weight: Term, stride: Pair, dilation: Pair) -> Term:
    return t.call("conv2d", picture, weight, stride, "valid", "NHWC", dilation)


def _convolution(t: Translation, node: Node) -> Term:
    value, weight, bias, *rest = t.arguments(node)
    window = _convolution_window(t, value, weight, t.result_shape(node), rest)
    picture = _padded(t, _last(t, value), window.padding, window.padding)
    kernel = t.call("transpose", t.tensor(weight), (2, 3, 1, 0))  # (height, width, in, out)
    result = _convolve(t, picture, kernel, window.stride, window.dilation)
    if bias is not None:
        result = t.call("add", result, t.tensor(bias))
    return _second(t, result)


def _convolution_gradients(t: Translation, node: Node) -> tuple[Term | None, ...]:
    """With respect to the input, the weight and the bias, as far as they are asked for."""
    grad, value, weight, _, *rest, wanted = t.arguments(node)
    window = _convolution_window(t, value, weight, t.shape(grad), rest)
    slope = _last(t, grad)
    assert isinstance(wanted, tuple)
    of_input, of_weight, of_bias = wanted
    return (
        _gradient_of_input(t, slope, weight, window) if of_input else None,
        _gradient_of_weight(t, slope, value, window) if of_weight else None,
        t.call("sum", slope, (0, 1, 2)) if of_bias else None,
    )


def _gradient_of_input(t: Translation, slope: Term, weight: Arg, window: Window) -> Term:
    spread = _spread(t, slope, window.stride, window.places, _first(t, weight))
    before = _each(lambda axis: window.reach[axis] - 1 - window.padding[axis])
    after = _each(
        lambda axis: window.picture[axis] + window.reach[axis] - 1 - before[axis] - window.span[axis]
    )
    wide = _padded(
        t, spread, _each(lambda axis: max(before[axis], 0)), _each(lambda axis: max(after[axis], 0))
    )
    if (
        min(*before, *after) < 0
    ):  # more padding than the window reaches over: part of the gradient is padding's
        start = _each(lambda axis: max(-before[axis], 0))
        size = _each(lambda axis: window.span[axis] + before[axis] + after[axis])
        wide = _corner(t, wide, start, size)
    turned = t.call("reverse", t.call("transpose", t.tensor(weight), (2, 3, 0, 1)), (0, 1))
    return _second(t, _convolve(t, wide, turned, (1, 1), window.dilation))


def _first(t: Translation, weight: Arg) -> int:
    extent = t.shape(weight)[0]
    assert isinstance(extent, int)  # a parameter's shape is the same for every batch
    return extent


def _gradient_of_weight(t: Translation, slope: Term, value: Arg, window: Window) -> Term:
    """Channels are the samples here, and samples the channels: each pair of channels has its own sum."""
    picture = _padded(t, _last(t, value), window.padding, window.padding)
    by_channel = t.call("transpose", picture, (3, 1, 2, 0))  # (in, height, width, batch)
    kernel = t.call("transpose", slope, (1, 2, 0, 3))  # (rows, columns, batch, out)
    found = _convolve(t, by_channel, kernel, window.dilation, window.stride)
    extents = _each(lambda axis: (window.padded[axis] - window.span[axis]) // window.dilation[axis] + 1)
    if extents != window.size:  # rows and columns at the edge that no place of the window reached
        found = _corner(t, found, (0, 0), window.size)
    return t.call("transpose", found, (3, 0, 1, 2))  # (out, in, height, width)


# -- pools ---------------------------------------------------------------------------------------------


def _pool_window(t: Translation, value: Arg, made: tuple[Extent, ...], arguments: list[Arg]) -> Window:
    """The window of a pool; `arguments` are (kernel, stride, padding, dilation, ceil_mode)."""
    kernel, stride, padding, dilation, ceiling = arguments
    if ceiling:
        raise UnsayableError("tfjs rounds the size of its result down; leave ceil_mode out.")
    size = _pair(kernel)
    return Window(
        size, _pair(stride, size), _pair(padding), _pair(dilation), _plane(t.shape(value)), _plane(made)
    )


def _beneath(t: Translation, picture: Term, window: Window, row: int, column: int) -> Term:
    """For each place of the window, its element in this row and column; the picture is padded."""
    begin = (row * window.dilation[0], column * window.dilation[1])
    end = _each(lambda axis: begin[axis] + window.span[axis])
    whole = _BATCH_AND_CHANNELS
    return t.call("stridedSlice", picture, (0, *begin, 0), (0, *end, 0), (1, *window.stride, 1), whole, whole)


def _returned(t: Translation, parts: Mapping[Pair, Term], window: Window, channels: int) -> Term:
    """The picture's gradient: what each element of the window is owed, added up where it came from."""
    placed = []
    for (row, column), part in parts.items():
        spread = _spread(t, part, window.stride, window.places, channels)
        before = (row * window.dilation[0], column * window.dilation[1])
        missing = _each(lambda axis: window.padded[axis] - window.span[axis])
        after = (missing[0] - before[0], missing[1] - before[1])
        placed.append(_padded(t, spread, before, after))
    total = functools.reduce(lambda left, right: t.call("add", left, right), placed)
    if window.padding != (0, 0):
        total = _corner(t, total, window.padding, window.picture)
    return _second(t, total)


def _places(window: Window) -> list[Pair]:
    return [(row, column) for row in range(window.size[0]) for column in range(window.size[1])]


_LOWEST = float(-(2.0**127))
"""Less than any number that a picture holds; tfjs has no way to write minus infinity around one."""


def _max_pool(t: Translation, node: Node) -> tuple[Term, None]:
    value, *arguments = t.arguments(node)
    window = _pool_window(t, value, t.result_shape(node), arguments)
    return _second(t, _maxima(t, _framed(t, value, window), window)), None


def _framed(t: Translation, value: Arg, window: Window) -> Term:
    return _padded(t, _last(t, value), window.padding, window.padding, _LOWEST)


def _maxima(t: Translation, picture: Term, window: Window) -> Term:
    if window.dilation == (1, 1):
        return t.call("maxPool", picture, window.size, window.stride, "valid")
    first, *others = (_beneath(t, picture, window, row, column) for row, column in _places(window))
    for other in others:
        first = t.call("maximum", first, other)
    return first


def _max_pool_gradient(t: Translation, node: Node) -> Term:
    """Goes to the first element of each window that is its maximum, as in PyTorch."""
    grad, value, *arguments, _ = t.arguments(node)
    window = _pool_window(t, value, t.shape(grad), arguments)
    picture, slope = _framed(t, value, window), _last(t, grad)
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
    return _returned(t, parts, window, _channels(t.shape(grad)))


def _mean_window(t: Translation, value: Arg, made: tuple[Extent, ...], arguments: list[Arg]) -> Window:
    """`arguments` are (kernel, stride, padding, ceil_mode, count_include_pad, divisor_override)."""
    kernel, stride, padding, ceiling, counted, divisor = arguments
    window = _pool_window(t, value, made, [kernel, stride, padding, 1, ceiling])
    if divisor is not None or (not counted and window.padding != (0, 0)):
        raise UnsayableError("Only an average over the whole window can be said; use count_include_pad=True.")
    return window


def _average_pool(t: Translation, node: Node) -> Term:
    value, *arguments = t.arguments(node)
    window = _mean_window(t, value, t.result_shape(node), arguments)
    return _averages(t, value, window)


def _averages(t: Translation, value: Arg, window: Window) -> Term:
    picture = _padded(t, _last(t, value), window.padding, window.padding)
    return _second(t, t.call("avgPool", picture, window.size, window.stride, "valid"))


def _average_pool_gradient(t: Translation, node: Node) -> Term:
    grad, value, *arguments = t.arguments(node)
    return _shared(t, grad, _mean_window(t, value, t.shape(grad), arguments))


def _shared(t: Translation, grad: Arg, window: Window) -> Term:
    """Each element of a window gets the same share."""
    share = t.call("mul", _last(t, grad), 1 / (window.size[0] * window.size[1]))
    return _returned(t, dict.fromkeys(_places(window), share), window, _channels(t.shape(grad)))


def _even_window(t: Translation, value: Arg, made: tuple[Extent, ...]) -> Window:
    """The window of an adaptive pool whose pieces are equal."""
    picture, places = _plane(t.shape(value)), _plane(made)
    if any(picture[axis] % places[axis] for axis in (0, 1)):
        raise UnsayableError(f"A picture of {picture} does not divide evenly into {places} pieces.")
    size = _each(lambda axis: picture[axis] // places[axis])
    return Window(size, size, (0, 0), (1, 1), picture, places)


def _adaptive_pool(t: Translation, node: Node) -> Term:
    return _averages(t, node.args[0], _even_window(t, node.args[0], t.result_shape(node)))


def _adaptive_pool_gradient(t: Translation, node: Node) -> Term:
    grad, value = node.args
    return _shared(t, grad, _even_window(t, value, t.shape(grad)))


RULES: Mapping[str, Rule] = {
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_gradients,
    "aten.max_pool2d_with_indices.default": _max_pool,
    "aten.max_pool2d_with_indices_backward.default": _max_pool_gradient,
    "aten.avg_pool2d.default": _average_pool,
    "aten.avg_pool2d_backward.default": _average_pool_gradient,
    "aten._adaptive_avg_pool2d.default": _adaptive_pool,
    "aten._adaptive_avg_pool2d_backward.default": _adaptive_pool_gradient,
}
"""By the name of the operation."""
