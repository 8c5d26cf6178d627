"""Convolutions: each client's kernels see its own channels alone, as a group of a grouped convolution."""

from collections.abc import Sequence
from typing import Any

from fedplan.plan.clients.lifting import Lifting, Made, Value

Numbers = Sequence[int]


def convolution(
    lift: Lifting,
    value: Value,
    weight: Value,
    bias: Value | None,
    stride: Numbers,
    padding: Numbers,
    dilation: Numbers,
    transposed: bool,
    output_padding: Numbers,
    groups: int,
) -> Made:
    """`convolution`: value (n, channels, …), weight (made, channels of a group, …)."""
    settings = (stride, padding, dilation, transposed, output_padding)
    if not weight.apart:
        shared = bias if bias is not None and not bias.apart else None
        rows = lift.by_rows(value)
        made = lift.from_rows(
            lift.aten("convolution.default", rows, weight, shared, *settings, groups, apart=False),
            value.shape[0],
        )
        if bias is None or not bias.apart:
            return made
        places = lift.shaped(bias, (*bias.shape, *(1,) * (value.rank - 2)))
        return lift.aten("add.Tensor", made, lift.aligned(places, value.rank))
    channels = lift.expected[0].shape[1]
    made = lift.aten(
        "convolution.default",
        lift.by_channels(value),
        lift.by_rows(weight),
        None if bias is None else lift.by_rows(bias),
        *settings,
        lift.times(groups),
        apart=False,
    )
    return lift.from_channels(made, channels)


def convolution_backward(
    lift: Lifting,
    gradient: Value,
    value: Value,
    weight: Value,
    bias_sizes: Numbers | None,
    stride: Numbers,
    padding: Numbers,
    dilation: Numbers,
    transposed: bool,
    output_padding: Numbers,
    groups: int,
    wanted: Sequence[bool],
) -> Made:
    """Gradients of value, weight and bias, as far as they are wanted."""
    settings = (stride, padding, dilation, transposed, output_padding)
    if not weight.apart and not (wanted[1] or wanted[2]):
        rows = (lift.by_rows(gradient), lift.by_rows(value), weight)
        made = lift.emit_all(f"{lift.op}", *rows, bias_sizes, *settings, groups, wanted, apart=False)
        return [None if part is None else lift.from_rows(part, value.shape[0]) for part in made]
    of_value, of_weight, of_bias = lift.emit_all(
        lift.op,
        lift.by_channels(gradient),
        lift.by_channels(value),
        lift.by_rows(weight),
        None if bias_sizes is None else tuple(map(lift.times, bias_sizes)),
        *settings,
        lift.times(groups),
        wanted,
        apart=False,
    )
    return [
        None if of_value is None else lift.from_channels(of_value, value.shape[1]),
        None if of_weight is None else lift.from_rows(of_weight, weight.shape[0]),
        None if of_bias is None else lift.from_rows(of_bias, gradient.shape[1]),
    ]


def pooled(rank: int) -> Any:
    """Pools and interpolations over so many dimensions, and their gradients: clients become channels.

    Args:
        rank: of the windows.
    """

    def rule(lift: Lifting, *args: Any) -> Made:
        tensors = [arg for arg in args if isinstance(arg, Value)]
        channels = tensors[0].shape[-rank - 1]
        if tensors[0].rank == rank + 1:  # no rows: clients are the rows
            return lift.again(*(lift.whole(arg) if isinstance(arg, Value) else arg for arg in args))
        folded = (lift.by_channels(arg) if isinstance(arg, Value) else arg for arg in args)
        made = lift.emit_all(lift.op, *folded, apart=False)
        return [None if part is None else lift.from_channels(part, channels) for part in made]

    return rule


def resized_backward(lift: Lifting, gradient: Value, size: Numbers, given: Numbers, *rest: Any) -> Made:
    """The gradient of an interpolation, which is told the shape of what was given: (n, channels, …)."""
    n, channels, *extents = given
    shape = (n, lift.times(channels), *extents)
    made = lift.aten(
        lift.op.removeprefix("aten."), lift.by_channels(gradient), size, shape, *rest, apart=False
    )
    return lift.from_channels(made, channels)


def sampled(lift: Lifting, *args: Any) -> Made:
    """`grid_sampler` and its gradient: each picture has a grid, so clients become pictures."""
    tensors = [arg for arg in args if isinstance(arg, Value)]
    folded = (lift.by_rows(arg) if isinstance(arg, Value) else arg for arg in args)
    made = lift.emit_all(lift.op, *folded, apart=False)
    return [None if part is None else lift.from_rows(part, tensors[0].shape[0]) for part in made]
