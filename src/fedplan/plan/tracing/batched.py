"""`torch.func.vmap` at any batch size.

PyTorch's own rules for some operations under `vmap` read sizes as plain numbers, which would fix the batch.
The rules here do not.
Per-sample gradients need most of them: `vmap(grad(loss), (None, 0, 0))(parameters, data, target)`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch._C import DispatchKey
from torch._decomp import decomposition_table
from torch._functorch.pyfunctorch import retrieve_current_functorch_interpreter
from torch._functorch.vmap import unwrap_batched, wrap_batched

from fedplan.plan.ops import overload

Function = Callable[..., Any]

KEY = DispatchKey.FuncTorchBatched
"""Where PyTorch looks for what an operation does under `vmap`."""

aten: Any = torch.ops.aten


def _rule(op: Any, whole: Function) -> Function:
    """The rule of an operation.

    Args:
        op: the operator.
        whole: called with the operator and its arguments, tensors with the batch as their first dimension or,
            where they have none, as `_Same`; returns results with the batch first, or NotImplemented.
    """

    def call(*args: Any) -> Any:
        interpreter: Any = retrieve_current_functorch_interpreter()
        level = interpreter.level()
        values, dims = unwrap_batched(args, level)
        with interpreter.lower():
            made = whole(op, *map(_given, values, dims))
        if made is NotImplemented:
            return op._op_dk(KEY, *args)
        if isinstance(made, torch.Tensor):
            return wrap_batched((made,), (0,), level)[0]
        return wrap_batched(tuple(made), tuple(None if value is None else 0 for value in made), level)

    return call


def _given(value: Any, dim: Any) -> Any:
    if isinstance(value, list | tuple):
        return list(map(_given, value, dim))
    if not isinstance(value, torch.Tensor):
        return value
    if dim is None:
        return _Same(value)
    return value.movedim(dim, 0) if dim else value


class _Same:
    """A tensor that is the same for the whole batch."""

    def __init__(self, value: torch.Tensor) -> None:
        self.value = value

    def spread(self, rows: int) -> torch.Tensor:
        """It for each of the batch, (rows, …)."""
        return self.value.expand(rows, *self.value.shape)


def _rows(args: Sequence[Any]) -> int:
    return next(arg.shape[0] for arg in args if isinstance(arg, torch.Tensor))


def _spread(args: Sequence[Any]) -> list[Any]:
    rows = _rows(args)
    return [arg.spread(rows) if isinstance(arg, _Same) else arg for arg in args]


def _apart(value: torch.Tensor, dim: int, sizes: Sequence[int]) -> torch.Tensor:
    """The value with several dimensions in place of one."""
    made: torch.Tensor = value.unflatten(dim, sizes)  # type: ignore[no-untyped-call]
    return made


def _along(op: Any, value: Any, dim: int, *rest: Any) -> torch.Tensor:
    """Operations that look up or write along one dimension, with an index of as many dimensions."""
    tensors = _spread([value, *rest])
    rank = tensors[0].dim() - 1
    if not rank:
        tensors = [arg.unsqueeze(1) if isinstance(arg, torch.Tensor) else arg for arg in tensors]
    made: torch.Tensor = op(tensors[0], dim % max(rank, 1) + 1, *tensors[1:])
    return made if rank else made.squeeze(1)


def _selected(op: Any, value: Any, dim: int, index: Any) -> torch.Tensor:
    """Slices, which are the same for the whole batch or not."""
    if isinstance(index, _Same):
        made: torch.Tensor = op(value, dim % (value.dim() - 1) + 1, index.value)
        return made
    whole, chosen = _spread([value, index])  # (batch, …), (batch, n)
    axis = dim % (whole.dim() - 1) + 1
    shape = [index.shape[1] if i == axis else extent for i, extent in enumerate(whole.shape)]
    places = [-1 if i in (0, axis) else 1 for i in range(whole.dim())]
    places[0] = chosen.shape[0]
    return torch.gather(whole, axis, chosen.reshape(places).expand(shape))


def _joined(op: Any, values: Any, dim: int = 0) -> torch.Tensor:
    """`cat`."""
    tensors = _spread(values)
    made: torch.Tensor = op(tensors, dim % (tensors[0].dim() - 1) + 1)
    return made


def _folded(rank: int) -> Function:
    """Operations on (rows, channels, *extents): the batch becomes more rows."""

    def whole(op: Any, *args: Any) -> Any:
        given = _spread(args)
        rows = _rows(args)
        first = next(arg for arg in given if isinstance(arg, torch.Tensor))
        if first.dim() == rank + 2:  # there were no rows
            return op(*given)
        made = op(*(arg.flatten(0, 1) if isinstance(arg, torch.Tensor) else arg for arg in given))
        several = isinstance(made, tuple)
        parts = [_apart(part, 0, (rows, first.shape[1])) for part in (made if several else (made,))]
        return tuple(parts) if several else parts[0]

    return whole


def _resized_backward(op: Any, gradient: Any, size: Any, given: Sequence[Any], *rest: Any) -> torch.Tensor:
    """The gradient of an interpolation, which is told the shape of what was given."""
    rows, count = gradient.shape[:2]
    made: Any = op(gradient.flatten(0, 1), size, [rows * given[0], *given[1:]], *rest)
    return _apart(made, 0, (rows, count))


def _convolution(op: Any, value: Any, weight: Any, bias: Any, *settings: Any) -> Any:
    """One kernel for the whole batch."""
    if not isinstance(weight, _Same) or isinstance(bias, torch.Tensor):
        return NotImplemented
    rows, count = value.shape[:2]
    made = op(value.flatten(0, 1), weight.value, bias and bias.value, *settings)
    return _apart(made, 0, (rows, count))


def _convolution_backward(
    op: Any,
    gradient: Any,
    value: Any,
    weight: Any,
    bias_sizes: Any,
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    transposed: bool,
    output_padding: Sequence[int],
    groups: int,
    wanted: Sequence[bool],
) -> Any:
    """One kernel for the whole batch, whose gradient is for each of it."""
    if not isinstance(weight, _Same):
        return NotImplemented
    gradient, value = _spread([gradient, value])  # (batch, rows, channels, *extents)
    rows, count = value.shape[:2]
    kernel = weight.value
    of_value = of_weight = of_bias = None
    if wanted[0]:
        settings = (bias_sizes, stride, padding, dilation, transposed, output_padding, groups)
        made = op(gradient.flatten(0, 1), value.flatten(0, 1), kernel, *settings, [True, False, False])[0]
        of_value = _apart(made, 0, (rows, count))
    if wanted[1]:
        seen, caused = (gradient, value) if transposed else (value, gradient)
        of_weight = _of_kernel(seen, caused, kernel.shape, (stride, padding, dilation), groups)
    if wanted[2]:
        of_bias = gradient.sum([1, *range(3, gradient.dim())])
    return of_value, of_weight, of_bias


def _of_kernel(
    seen: torch.Tensor,
    caused: torch.Tensor,
    shape: Sequence[int],
    window: tuple[Sequence[int], Sequence[int], Sequence[int]],
    groups: int,
) -> torch.Tensor:
    """A kernel's gradient: products of what it has seen and the gradient of what that caused.

    Args:
        seen: (batch, rows, channels, *extents).
        caused: (batch, rows, made, *places).
        shape: of the kernel, (made, channels of a group, *sizes).
        window: stride, padding and dilation for each axis.
        groups: of channels.

    Returns:
        (batch, made, channels of a group, *sizes).
    """
    rank = len(shape) - 2
    stride, padding, dilation = (list(each) * (rank // len(each)) for each in window)
    parts = nn.functional.pad(seen, [amount for each in reversed(padding) for amount in (each, each)])
    for axis in range(rank):
        reach = dilation[axis] * (shape[axis + 2] - 1) + 1
        parts = parts.unfold(axis + 3, reach, stride[axis])[..., :: dilation[axis]]
        parts = parts.narrow(axis + 3, 0, caused.shape[axis + 3])  # beyond is output padding
    batch = caused.shape[0]
    places, sizes = range(3, rank + 3), range(rank + 3, 2 * rank + 3)
    parts = parts.permute(0, 2, *sizes, 1, *places)  # (batch, channels, *sizes, rows, *places)
    parts = _apart(parts.flatten(2 + rank), 1, (groups, -1)).flatten(2, 2 + rank)  # (batch, groups, n, p)
    made = _apart(caused.transpose(1, 2).flatten(2), 1, (groups, -1))  # (batch, groups, m, p)
    products: torch.Tensor = made @ parts.mT  # (batch, groups, m, n)
    return products.reshape(batch, *shape)


_COMPOSED = (
    "_native_batch_norm_legit.default", "_native_batch_norm_legit.no_stats",
    "_native_batch_norm_legit_no_training.default",
    "binary_cross_entropy.default", "binary_cross_entropy_backward.default",
    "embedding_dense_backward.default", "gelu_backward.default", "glu_backward.default",
    "index_add.default", "native_batch_norm_backward.default", "native_group_norm.default",
    "col2im.default", "im2col.default", "reflection_pad1d.default", "reflection_pad1d_backward.default",
    "reflection_pad2d.default", "reflection_pad2d_backward.default", "replication_pad1d.default",
    "replication_pad2d.default",
    "native_group_norm_backward.default", "native_layer_norm.default", "native_layer_norm_backward.default",
    "pixel_shuffle.default", "pixel_unshuffle.default", "select_backward.default", "slice_backward.default",
)  # fmt: skip
"""Operations that Plans may hold, and that are composed of others under `vmap`."""

_FOLDED = {
    rank: [getattr(aten, name).default for name in names]
    for rank, names in {
        1: ("adaptive_avg_pool1d", "avg_pool1d"),
        2: (
            "_adaptive_avg_pool2d", "_adaptive_avg_pool2d_backward", "adaptive_max_pool2d",
            "adaptive_max_pool2d_backward", "avg_pool2d", "avg_pool2d_backward",
            "max_pool2d_with_indices", "max_pool2d_with_indices_backward",
        ),
        3: (
            "_adaptive_avg_pool3d", "_adaptive_avg_pool3d_backward", "adaptive_max_pool3d",
            "adaptive_max_pool3d_backward", "avg_pool3d", "avg_pool3d_backward",
            "max_pool3d_with_indices", "max_pool3d_with_indices_backward",
        ),
    }.items()
}  # fmt: skip

_RESIZED = {
    rank: [overload(f"aten.{name}.default") for name in names]
    for rank, names in {
        1: ("upsample_linear1d", "upsample_nearest1d", "_upsample_nearest_exact1d"),
        2: (
            "upsample_bicubic2d", "upsample_bilinear2d", "upsample_nearest2d", "_upsample_nearest_exact2d",
            "_upsample_bicubic2d_aa", "_upsample_bilinear2d_aa",
        ),
        3: ("upsample_nearest3d", "_upsample_nearest_exact3d", "upsample_trilinear3d"),
    }.items()
}  # fmt: skip

RULES: Mapping[Any, Function] = {
    **{op: decomposition_table[op] for op in (overload(f"aten.{name}") for name in _COMPOSED)},
    **{
        op: _rule(op, _along)
        for op in (
            aten.gather.default,
            aten.scatter.src,
            aten.scatter.value,
            aten.scatter_add.default,
        )
    },
    **{op: _rule(op, _folded(rank)) for rank, ops in _FOLDED.items() for op in ops},
    **{op: _rule(op, _folded(rank)) for rank, ops in _RESIZED.items() for op in ops},
    **{
        op: _rule(op, _resized_backward)
        for ops in _RESIZED.values()
        for op in (
            overload(f"aten.{each._schema.name.removeprefix('aten::')}_backward.default") for each in ops
        )
    },
    aten.index_select.default: _rule(aten.index_select.default, _selected),
    aten.cat.default: _rule(aten.cat.default, _joined),
    aten.convolution.default: _rule(aten.convolution.default, _convolution),
    aten.convolution_backward.default: _rule(aten.convolution_backward.default, _convolution_backward),
}
"""What operations do under `vmap`, by operator."""
