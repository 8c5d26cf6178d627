"""Rules for convolutions.

tfjs-core exports no gradients of them; they are said with what it has. The gradient of a convolution's weight
is a convolution of the picture with the gradient; that of its input one of the gradient, spread out, with the
weight turned round.
"""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Extent, Rule, Translator, UnsayableError
from fedplan.plan.variants.tfjs.windows import (
    Pair,
    Window,
    channels_last,
    channels_second,
    corner,
    each,
    framed,
    pair,
    plane,
    spread_out,
)


def _convolution_window(
    t: Translator, value: Arg, weight: Arg, made: tuple[Extent, ...], rest: list[Arg]
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
        plane(t.shape(weight)),
        pair(stride),
        pair(padding),
        pair(dilation),
        plane(t.shape(value)),
        plane(made),
    )
    if max(window.stride) > 1 and max(window.dilation) > 1:
        raise UnsayableError("tfjs has no convolution with both a stride and a dilation.")
    return window


def _convolve(t: Translator, picture: Term, weight: Term, stride: Pair, dilation: Pair) -> Term:
    return t.call("conv2d", picture, weight, stride, "valid", "NHWC", dilation)


def _convolution(t: Translator, node: Node) -> Term:
    value, weight, bias, *rest = padded(node)
    window = _convolution_window(t, value, weight, t.result_shape(node), rest)
    picture = framed(t, channels_last(t, value), window.padding, window.padding)
    kernel = t.call("transpose", t.tensor(weight), (2, 3, 1, 0))  # (height, width, in, out)
    result = _convolve(t, picture, kernel, window.stride, window.dilation)
    if bias is not None:
        result = t.call("add", result, t.tensor(bias))
    return channels_second(t, result)


def _convolution_gradients(t: Translator, node: Node) -> tuple[Term | None, ...]:
    """With respect to the input, the weight and the bias, as far as they are asked for."""
    grad, value, weight, _, *rest, wanted = padded(node)
    window = _convolution_window(t, value, weight, t.shape(grad), rest)
    slope = channels_last(t, grad)
    assert isinstance(wanted, tuple)
    of_input, of_weight, of_bias = wanted
    return (
        _gradient_of_input(t, slope, weight, window) if of_input else None,
        _gradient_of_weight(t, slope, value, window) if of_weight else None,
        t.call("sum", slope, (0, 1, 2)) if of_bias else None,
    )


def _gradient_of_input(t: Translator, slope: Term, weight: Arg, window: Window) -> Term:
    spread = spread_out(t, slope, window.stride, window.places, _first(t, weight))
    before = each(lambda axis: window.reach[axis] - 1 - window.padding[axis])
    after = each(
        lambda axis: window.picture[axis] + window.reach[axis] - 1 - before[axis] - window.span[axis]
    )
    wide = framed(t, spread, each(lambda axis: max(before[axis], 0)), each(lambda axis: max(after[axis], 0)))
    if (
        min(*before, *after) < 0
    ):  # more padding than the window reaches over: part of the gradient is padding's
        start = each(lambda axis: max(-before[axis], 0))
        size = each(lambda axis: window.span[axis] + before[axis] + after[axis])
        wide = corner(t, wide, start, size)
    turned = t.call("reverse", t.call("transpose", t.tensor(weight), (2, 3, 0, 1)), (0, 1))
    return channels_second(t, _convolve(t, wide, turned, (1, 1), window.dilation))


def _first(t: Translator, weight: Arg) -> int:
    extent = t.shape(weight)[0]
    assert isinstance(extent, int)  # a parameter's shape is the same for every batch
    return extent


def _gradient_of_weight(t: Translator, slope: Term, value: Arg, window: Window) -> Term:
    """Channels are the samples here, and samples the channels: each pair of channels has its own sum."""
    picture = framed(t, channels_last(t, value), window.padding, window.padding)
    by_channel = t.call("transpose", picture, (3, 1, 2, 0))  # (in, height, width, batch)
    kernel = t.call("transpose", slope, (1, 2, 0, 3))  # (rows, columns, batch, out)
    found = _convolve(t, by_channel, kernel, window.dilation, window.stride)
    extents = each(lambda axis: (window.padded[axis] - window.span[axis]) // window.dilation[axis] + 1)
    if extents != window.size:  # rows and columns at the edge that no place of the window reached
        found = corner(t, found, (0, 0), window.size)
    return t.call("transpose", found, (3, 0, 1, 2))  # (out, in, height, width)


RULES: Mapping[str, Rule] = {
    "aten.convolution.default": _convolution,
    "aten.convolution_backward.default": _convolution_gradients,
}
"""By the name of the operation."""
