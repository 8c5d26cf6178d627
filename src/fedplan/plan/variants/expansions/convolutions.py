"""Convolutions, said with simpler ones.

The gradient of a convolution's weight is a convolution of the picture with the gradient, that of its input a
transposed one of the gradient with the weight. A transposed convolution is one with the kernel turned round,
of the picture with zeros between its elements.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.plan.variants.expansions.windows import Window, beneath, each, framed, spread

_convolve: Callable[..., Tensor] = torch.ops.aten.convolution.default


def convolution_backward(
    gradient: Tensor,
    x: Tensor,
    weight: Tensor,
    bias_sizes: Sequence[int] | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    output_mask: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """The gradients of a convolution's input, weight and bias, as far as the mask asks for them.

    Args:
        gradient: of the result, (batch, channels out, *places).
        x: what was convolved, (batch, channels in, *extents).
        weight: (channels out, channels in / groups, *sizes); the first two the other way round if transposed.
    """
    moves = (stride, padding, dilation)
    picture, places = (gradient, x) if transposed else (x, gradient)
    of_input, of_weight, of_bias = output_mask
    return (
        _gradient_of_input(gradient, x, weight, moves, transposed, groups) if of_input else None,
        _gradient_of_weight(places, picture, weight, moves, groups) if of_weight else None,
        gradient.sum([0, *range(2, gradient.dim())]) if of_bias else None,
    )


Moves = tuple[Sequence[int], Sequence[int], Sequence[int]]
"""Stride, padding and dilation."""


def _gradient_of_input(
    gradient: Tensor, x: Tensor, weight: Tensor, moves: Moves, transposed: bool, groups: int
) -> Tensor:
    if transposed:
        return _first(_convolve(gradient, weight, None, *moves, False, [0], groups), x.shape)
    stride, padding, dilation = (each(numbers, x.dim() - 2) for numbers in moves)
    rest = [
        (x.shape[i + 2] + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) % step
        if step > 1
        else 0
        for i, step in enumerate(stride)
    ]
    return _convolve(gradient, weight, None, stride, padding, dilation, True, rest, groups)


def _gradient_of_weight(places: Tensor, picture: Tensor, weight: Tensor, moves: Moves, groups: int) -> Tensor:
    """Channels are the samples, and samples the channels: each pair of channels has its own sum."""
    if groups > 1:
        return _gradient_of_weight_in_groups(places, picture, weight, moves, groups)
    stride, padding, dilation = moves
    across = _convolve(
        picture.transpose(0, 1), places.transpose(0, 1), None, dilation, padding, stride, False, [0], 1
    )
    return _first(across, (0, 0, *weight.shape[2:])).transpose(0, 1)


def _gradient_of_weight_in_groups(
    places: Tensor, picture: Tensor, weight: Tensor, moves: Moves, groups: int
) -> Tensor:
    """For each element of the kernel a matrix product within each group."""
    window = _window(picture, weight, moves, places)
    slope = places.transpose(0, 1).reshape(groups, places.shape[1] // groups, -1)
    frame = framed(picture.transpose(0, 1), window)  # channels first, so that a group's lie side by side
    parts = [
        torch.bmm(slope, beneath(frame, window, tap).reshape(groups, weight.shape[1], -1).transpose(1, 2))
        for tap in window.taps
    ]
    return torch.cat([part.unsqueeze(-1) for part in parts], -1).reshape(weight.shape)


def _first(x: Tensor, shape: Sequence[int]) -> Tensor:
    """As many elements along each extent as a shape has, from the beginning."""
    for dim in range(2, x.dim()):
        known = isinstance(x.shape[dim], int) and isinstance(shape[dim], int)
        if not known or x.shape[dim] != shape[dim]:
            x = x.narrow(dim, 0, shape[dim])
    return x


def _window(picture: Tensor, weight: Tensor, moves: Moves, places: Tensor) -> Window:
    rank = weight.dim() - 2
    stride, padding, dilation = (each(numbers, rank) for numbers in moves)
    sizes, extents, made = (tuple(value.shape[2:]) for value in (weight, picture, places))
    return Window(sizes, stride, padding, dilation, extents, made)


def convolution(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
) -> Any:
    """A convolution without groups but where each channel is one, and with strides or dilations, not both.

    For variants that have only those, and none that is transposed.

    Returns:
        The result; NotImplemented where it is such a convolution already, or the extents of its pictures
        depend on the batch size.
    """
    rank = weight.dim() - 2
    if not all(isinstance(extent, int) for extent in x.shape[2:]):
        return NotImplemented
    if transposed:
        turned = _forward(x, weight, (stride, padding, dilation), each(output_padding, rank), groups)
    elif groups > 1 and not (x.shape[1] == groups and rank <= 2):
        turned = _in_groups(x, weight, (stride, padding, dilation), groups)
    elif groups > 1 and rank == 1:
        flat = ((1, *stride), (0, *padding), (1, *dilation))
        turned = _convolve(x.unsqueeze(2), weight.unsqueeze(2), None, *flat, False, [0], groups).squeeze(2)
    elif max(stride) > 1 and max(dilation) > 1:
        none = [0] * rank
        apart = spread(weight, each(dilation, rank), none, none)
        turned = _convolve(x, apart, None, stride, padding, [1] * rank, False, [0], groups)
    else:
        return NotImplemented
    return turned if bias is None else turned + bias.reshape(-1, *[1] * rank)


def _forward(x: Tensor, weight: Tensor, moves: Moves, more: Sequence[int], groups: int) -> Tensor:
    """A transposed convolution as one that is not."""
    rank = weight.dim() - 2
    stride, padding, dilation = (each(numbers, rank) for numbers in moves)
    before = [dilation[i] * (weight.shape[i + 2] - 1) - padding[i] for i in range(rank)]
    after = [b + m for b, m in zip(before, more, strict=True)]
    kernel = weight.flip([*range(2, rank + 2)])
    if groups > 1:
        channels, outs, *sizes = kernel.shape
        kernel = kernel.reshape(groups, channels // groups, outs, *sizes).transpose(1, 2)
        kernel = kernel.reshape(groups * outs, channels // groups, *sizes)
    else:
        kernel = kernel.transpose(0, 1)
    wide = spread(x, stride, before, after)
    return _convolve(wide, kernel, None, [1] * rank, [0] * rank, dilation, False, [0], groups)


def _in_groups(x: Tensor, weight: Tensor, moves: Moves, groups: int) -> Tensor:
    """For each element of the kernel a matrix product within each group."""
    rank = weight.dim() - 2
    stride, padding, dilation = (each(numbers, rank) for numbers in moves)
    window = Window(
        tuple(weight.shape[2:]), stride, padding, dilation, tuple(x.shape[2:]), _places(x, weight, moves)
    )
    frame = framed(x.transpose(0, 1), window)
    factors = weight.reshape(groups, weight.shape[0] // groups, weight.shape[1], -1)
    total: Tensor | None = None
    for number, tap in enumerate(window.taps):
        part = torch.bmm(
            factors[..., number], beneath(frame, window, tap).reshape(groups, weight.shape[1], -1)
        )
        total = part if total is None else total + part
    assert total is not None  # a kernel has at least one element
    return total.reshape(weight.shape[0], x.shape[0], *window.places).transpose(0, 1)


def _places(x: Tensor, weight: Tensor, moves: Moves) -> tuple[int, ...]:
    stride, padding, dilation = (each(numbers, weight.dim() - 2) for numbers in moves)
    return tuple(
        (extent + 2 * padding[i] - dilation[i] * (weight.shape[i + 2] - 1) - 1) // stride[i] + 1
        for i, extent in enumerate(x.shape[2:])
    )
