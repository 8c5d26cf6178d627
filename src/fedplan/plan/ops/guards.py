"""What must hold before a kernel may run that trusts its caller.

PyTorch's gradient kernels are meant to be called by autograd, with shapes and indices that its forward
kernels have checked; several read or write out of bounds when they are not. A Plan may come from anybody,
so these conditions are stated here and checked before the Plan runs.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

Guard = Callable[[Sequence[Any]], str | None]
"""Called with an operation's arguments in schema order; says why they are refused, or None."""


def same_shape(*positions: int) -> Guard:
    """The tensors at these positions have one shape."""

    def check(args: Sequence[Any]) -> str | None:
        shapes = [tuple(args[p].shape) for p in positions]
        return None if len(set(shapes)) == 1 else f"tensors of the shapes {shapes} where one shape is needed"

    return check


def _lengths(expected: Mapping[int, int], args: Sequence[Any]) -> str | None:
    """The arguments at these positions are absent or hold exactly so many elements, side by side."""
    for position, count in expected.items():
        tensor = args[position]
        if tensor is not None and (tensor.numel() != count or not tensor.is_contiguous()):
            return f"argument {position} does not hold {count} elements side by side in memory"
    return None


def layer_norm_backward(args: Sequence[Any]) -> str | None:
    """The statistics are those of the normalised dimensions."""
    grad, value, normalised = args[0], args[1], list(args[2])
    if list(value.shape[value.dim() - len(normalised) :]) != normalised:
        return f"a tensor of the shape {tuple(value.shape)} is not normalised over {normalised}"
    inner = math.prod(normalised)
    outer = value.numel() // max(inner, 1)
    return same_shape(0, 1)((grad, value)) or _lengths({3: outer, 4: outer, 5: inner, 6: inner}, args)


def _channels(value: torch.Tensor) -> int:
    return value.shape[1] if value.dim() > 1 else 0


def batch_norm(*positions: int) -> Guard:
    """The tensors at these positions hold one number a channel."""

    def check(args: Sequence[Any]) -> str | None:
        return _lengths(dict.fromkeys(positions, _channels(args[0])), args)

    return check


def training_batch_norm(training: int, *positions: int) -> Guard:
    """Batch norm that may use the batch's own statistics, which take two values: else a variance is 0/0."""
    lengths = batch_norm(*positions)

    def check(args: Sequence[Any]) -> str | None:
        value = args[0]
        if args[training] and value.numel() < 2 * _channels(value):
            return (
                f"a batch of the shape {tuple(value.shape)} has fewer than two values per channel, and batch "
                "norm in training mode needs more than one. Leave a last batch of one sample out "
                "(drop_last=True in a DataLoader), or take a batch size that leaves none"
            )
        return lengths(args)

    return check


def batch_norm_backward(args: Sequence[Any]) -> str | None:
    """Gradient and input have one shape, and the statistics one number a channel."""
    channels = _channels(args[1])
    read = range(2, 7 if args[7] else 5)  # the batch's own statistics only when they were used
    return same_shape(0, 1)(args) or _lengths(dict.fromkeys(read, channels), args)


def _groups(value: torch.Tensor, n: int, c: int, spatial: int, group: int) -> str | None:
    if value.dim() < 2 or (value.shape[0], value.shape[1], math.prod(value.shape[2:])) != (n, c, spatial):
        return f"a tensor of the shape {tuple(value.shape)} is not {n} × {c} × {spatial}"
    return None if group > 0 and c % group == 0 else f"{c} channels do not divide into {group} groups"


def group_norm(args: Sequence[Any]) -> str | None:
    """The extents given as numbers are those of the tensor."""
    n, c, spatial, group = args[3:7]
    return _groups(args[0], n, c, spatial, group) or _lengths({1: c, 2: c}, args)


def group_norm_backward(args: Sequence[Any]) -> str | None:
    """The extents given as numbers are those of the tensors."""
    n, c, spatial, group = args[5:9]
    return (
        _groups(args[1], n, c, spatial, group)
        or same_shape(0, 1)(args)
        or _lengths({2: n * group, 3: n * group, 4: c}, args)
    )


def _at(numbers: int | Sequence[int], axis: int) -> int:
    """The number for one axis, where one number may stand for all."""
    if isinstance(numbers, int):
        return numbers
    return numbers[axis] if len(numbers) > 1 else numbers[0]


def convolution_backward(args: Sequence[Any]) -> str | None:
    """The gradient has the shape of the convolution's result."""
    grad, value, weight = args[:3]
    stride, padding, dilation, transposed, output_padding, groups = args[4:10]
    rank = value.dim() - 2
    if not (grad.dim() == value.dim() == weight.dim() and rank >= 1 and groups >= 1):
        return "tensors of different ranks"

    channels = (weight.shape[0], weight.shape[1] * groups)  # (out, in), the other way round when transposed
    out, into = channels[::-1] if transposed else channels
    extents = []
    for axis in range(rank):
        step, pad, gap = _at(stride, axis), _at(padding, axis), _at(dilation, axis)
        if step < 1 or gap < 1 or pad < 0:
            return f"stride {step}, padding {pad}, dilation {gap}"
        size, reach = value.shape[2 + axis], gap * (weight.shape[2 + axis] - 1) + 1
        if transposed:
            extents.append((size - 1) * step - 2 * pad + reach + _at(output_padding, axis))
        else:
            extents.append((size + 2 * pad - reach) // step + 1)
    expected = (value.shape[0], out, *extents)
    if tuple(grad.shape) != expected or value.shape[1] != into:
        return f"a gradient of the shape {tuple(grad.shape)} where {expected} is needed"
    return None


def average_pool_backward(rank: int) -> Guard:
    """Gradient and input have the same batch and channels.

    Args:
        rank: of the windows: 2 for pictures, 3 for volumes.
    """

    def check(args: Sequence[Any]) -> str | None:
        grad, value = args[:2]
        same = grad.dim() == value.dim() > rank and grad.shape[:-rank] == value.shape[:-rank]
        if same and (value.numel() or not grad.numel()):
            return None
        return f"a gradient of the shape {tuple(grad.shape)} for {tuple(value.shape)}"

    return check


def embedding_backward(args: Sequence[Any]) -> str | None:
    """There is one row of the gradient for each index."""
    grad, indices, rows = args[:3]
    if args[4]:
        return "the kernel that scales by frequency counts with indices that it does not check"
    if tuple(grad.shape[:-1]) != tuple(indices.shape) or grad.dim() < 1 or rows < 0:
        return f"a gradient of the shape {tuple(grad.shape)} for indices of the shape {tuple(indices.shape)}"
    return None


def max_pool(rank: int) -> Guard:
    """A window without any element of the picture gets an index outside of it, where its gradient goes."""

    def check(args: Sequence[Any]) -> str | None:
        value, kernel, _, padding, dilation, _ = [*args, *_MAX_POOL_DEFAULTS[len(args) :]]
        for axis, size in enumerate(value.shape[-rank:]):
            cells, pad, gap = _at(kernel, axis), _at(padding, axis), _at(dilation, axis)
            if gap > size or -(-pad // gap) >= cells:
                return f"padding {pad} and dilation {gap} leave windows of {cells} outside of {size} elements"
        return None

    return check


_MAX_POOL_DEFAULTS: tuple[Any, ...] = (None, None, (), 0, 1, False)


def resized_backward(rank: int) -> Guard:
    """The extents given as numbers are those of the gradient: of an interpolation."""

    def check(args: Sequence[Any]) -> str | None:
        grad, output, given = args[0], list(args[1]), list(args[2])
        expected = [*given[:2], *output]
        if len(given) != rank + 2 or len(output) != rank or list(grad.shape) != expected:
            return f"a gradient of the shape {tuple(grad.shape)} where {expected} is needed"
        return None if min(expected[1:] + given[1:]) > 0 else f"extents {given} and {output}"

    return check


def grid_sampler(rank: int) -> Guard:
    """The grid has one place of the input for each element of the output, and the modes exist."""

    def check(args: Sequence[Any]) -> str | None:
        value, grid, mode, padding = args[:4]
        fits = value.dim() == grid.dim() == rank + 2 and value.shape[0] == grid.shape[0]
        if not fits or grid.shape[-1] != rank or min(value.shape[1:]) < 1:
            return f"a grid of the shape {tuple(grid.shape)} for {tuple(value.shape)}"
        known = mode in range(3 if rank == 2 else 2) and padding in range(3)  # cubic is for pictures only
        return None if known else f"mode {mode} and padding {padding}"

    return check


def grid_sampler_backward(rank: int) -> Guard:
    """The gradient has the shape of the output, too."""

    def check(args: Sequence[Any]) -> str | None:
        grad, value, grid = args[:3]
        refusal = grid_sampler(rank)(args[1:])
        if refusal is None and tuple(grad.shape) != (*value.shape[:2], *grid.shape[1:-1]):
            refusal = f"a gradient of the shape {tuple(grad.shape)} for a grid of {tuple(grid.shape)}"
        return refusal

    return check


def pivots(position: int) -> Guard:
    """The pivots are numbers of rows, counted from one."""

    def check(args: Sequence[Any]) -> str | None:
        given = args[position]
        rows = args[0].shape[-2] if args[0].dim() > 1 else 0
        inside = not given.numel() or bool(((given >= 1) & (given <= rows)).all())
        return None if inside else f"pivots outside of 1 to {rows}"

    return check


@dataclasses.dataclass(frozen=True, slots=True)
class Witness:
    """A forward operation that must have run before, because it checks the indices that this one trusts.

    Attributes:
        forward: name of that operation.
        same: (argument here, argument there) pairs that must be the very same value or number.
        result: (argument here, result there) that must be the same value: what keeps the forward operation
            in the Plan when operations that nothing reads are dropped.
    """

    forward: str
    same: tuple[tuple[int, int], ...]
    result: tuple[int, int]


LIKELIHOOD = Witness(
    # (grad, self, target, weight, reduction, ignore_index, total_weight)
    "aten.nll_loss_forward.default",
    same=((1, 0), (2, 1), (3, 2), (5, 4)),
    result=(6, 1),
)
"""Of the likelihood's gradient: the loss itself checks the targets."""


def largest(rank: int) -> Witness:
    """Of the gradient of a maximum pool over so many dimensions: the pool itself makes the indices.

    The gradient takes (grad, self, kernel, stride, padding, dilation, ceil_mode, indices).
    """
    same = ((1, 0), (2, 1), (3, 2), (4, 3), (5, 4), (6, 5))
    return Witness(f"aten.max_pool{rank}d_with_indices.default", same=same, result=(7, 1))


def adaptive_largest(rank: int) -> Witness:
    """Of the gradient of an adaptive maximum pool over so many dimensions: (grad, self, indices)."""
    return Witness(f"aten.adaptive_max_pool{rank}d.default", same=((1, 0),), result=(2, 1))


ResultCount = Callable[[Sequence[Any]], int]
"""Called with an operation's arguments: how many tensors it returns at most, known before it runs. A hostile
Plan asks for billions."""


def _extent(args: Sequence[Any], position: int) -> int:
    dim = args[position] if len(args) > position and args[position] is not None else 0
    return int(args[0].shape[dim])


def pieces(args: Sequence[Any]) -> int:
    """Of a tensor that is cut into pieces of one size."""
    size, step = _extent(args, 2), args[1]
    return max(1, -(-size // step)) if step > 0 else 0


def listed_pieces(args: Sequence[Any]) -> int:
    """Of a tensor that is cut into pieces of listed sizes."""
    return len(args[1])


def chunks(args: Sequence[Any]) -> int:
    """Of a tensor that is cut into a number of pieces; an empty dimension gives as many as are asked for."""
    return int(min(args[1], _extent(args, 2) or args[1]))


def slices(args: Sequence[Any]) -> int:
    """Of a tensor that is taken apart along one dimension."""
    return _extent(args, 1)
