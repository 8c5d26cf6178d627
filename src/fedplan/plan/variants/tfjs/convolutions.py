"""The rule for convolutions. `expansions` says their gradients, and other kinds of them, with these."""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Rule, Translator
from fedplan.plan.variants.tfjs.windows import channels_last, channels_second, each, extents


def _convolution(t: Translator, node: Node) -> Term:
    """Of one to three extents; without groups, or one for each channel."""
    value, weight, bias, stride, padding, dilation, _, _, groups = padded(node)
    rank = len(t.shape(weight)) - 2
    extents(t.shape(value), rank)
    around = [(amount, amount) for amount in each(padding, rank)]
    picture = channels_last(t, t.pad(t.tensor(value), t.shape(value), ((0, 0), (0, 0), *around)), rank)
    steps, dilations = each(stride, rank), each(dilation, rank)
    if groups != 1:
        result = t.call(
            "depthwiseConv2d", picture, _one_a_channel(t, node), steps, "valid", "NHWC", dilations
        )
    elif rank == 1:
        kernel = t.transpose(t.tensor(weight), (2, 1, 0))
        result = t.call("conv1d", picture, kernel, steps[0], "valid", "NWC", dilations[0])
    else:
        kernel = t.transpose(t.tensor(weight), (*range(2, rank + 2), 1, 0))  # (*sizes, in, out)
        command, layout = ("conv2d", "NHWC") if rank == 2 else ("conv3d", "NDHWC")
        result = t.call(command, picture, kernel, steps, "valid", layout, dilations)
    if bias is not None:
        result = t.call("add", result, t.tensor(bias))
    return channels_second(t, result, rank)


def _one_a_channel(t: Translator, node: Node) -> Term:
    """The kernels where each channel is a group: (height, width, channels, kernels each)."""
    weight, groups = node.args[1], node.args[8]
    made, _, *sizes = t.shape(weight)
    kernels = t.tensor(weight)
    if made != groups:
        assert isinstance(made, int)  # a parameter's shape is the same for every batch
        assert isinstance(groups, int)
        kernels = t.reshape(kernels, (groups, made // groups, *sizes))
    return t.transpose(kernels, (2, 3, 0, 1))


RULES: Mapping[str, Rule] = {"aten.convolution.default": _convolution}
"""By the name of the operation."""
