"""The functions of tfjs-core that Plans use, as syft.js calls them: by name, with arguments by position.

Values are torch tensors of the three dtypes that tfjs has. Each function does what tfjs-core 1.7.4 does, its
way with dtypes included; what it does otherwise than is modelled here is refused.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

Number = int | float | bool
Value = Tensor | Number

DTYPES: Mapping[str, torch.dtype] = {"float32": torch.float32, "int32": torch.int32, "bool": torch.bool}
"""tfjs's dtypes."""

_ORDER = (torch.bool, torch.int32, torch.float32)
"""Of two dtypes the later one is that of the result."""


def as_tensor(value: Value | Sequence[Any]) -> Tensor:
    """A value as tfjs takes it where it needs a tensor: numbers become float32."""
    if isinstance(value, Tensor):
        if value.dtype not in _ORDER:
            raise TypeError(f"tfjs has no tensors of the dtype {value.dtype}")
        return value
    if isinstance(value, bool):
        return torch.tensor(value)
    return torch.tensor(value, dtype=torch.float32)


def _matched(left: Value, right: Value) -> tuple[Tensor, Tensor]:
    a, b = as_tensor(left), as_tensor(right)
    dtype = max(a.dtype, b.dtype, key=_ORDER.index)
    return a.to(dtype), b.to(dtype)


def _arithmetic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Value, Value], Tensor]:
    def call(left: Value, right: Value) -> Tensor:
        a, b = _matched(left, right)
        if a.dtype == torch.bool:
            raise TypeError("tfjs calculates with two truth values as with bytes; cast them first")
        return function(a, b).to(a.dtype)

    return call


def _quotient(a: Tensor, b: Tensor) -> Tensor:
    return a / b if a.dtype == torch.float32 else torch.div(a, b, rounding_mode="floor")


def _comparison(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Value, Value], Tensor]:
    return lambda left, right: function(*_matched(left, right))


def _float(function: Callable[[Tensor], Tensor]) -> Callable[[Value], Tensor]:
    """Computed in float32, whatever goes in."""
    return lambda value: function(as_tensor(value).to(torch.float32))


def _logic(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda left, right: function(_truth(left), _truth(right))


def _truth(value: Value) -> Tensor:
    tensor = as_tensor(value)
    if tensor.dtype != torch.bool:
        raise TypeError("tfjs needs truth values here; cast it first")
    return tensor


Axis = int | Sequence[int] | None


def _axes(axis: Axis, rank: int) -> list[int]:
    if axis is None:
        return list(range(rank))
    return [a % rank for a in ([axis] if isinstance(axis, int) else axis)]


def _reduction(function: Callable[..., Tensor], number: bool = True) -> Callable[..., Tensor]:
    def call(value: Value, axis: Axis = None, keep: bool = False) -> Tensor:
        tensor = as_tensor(value)
        if number and tensor.dtype == torch.bool:
            tensor = tensor.to(torch.int32)
        axes = _axes(axis, tensor.dim())
        return function(tensor, axes, keep).to(tensor.dtype) if axes else tensor

    return call


def _mean(value: Value, axis: Axis = None, keep: bool = False) -> Tensor:
    tensor = as_tensor(value).to(torch.float32)
    axes = _axes(axis, tensor.dim())
    count = math.prod(tensor.shape[a] for a in axes)
    return (tensor / count).sum(axes, keep) if axes else tensor


def _product(tensor: Tensor, axes: Sequence[int], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        tensor = tensor.prod(axis, keep)
    return tensor


def _all_of(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(value: Tensor, axis: Axis = None, keep: bool = False) -> Tensor:
        tensor = _truth(value)
        axes = _axes(axis, tensor.dim())
        return function(tensor, axes, keep) if axes else tensor

    return call


def _place(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    return lambda value, axis=0: function(as_tensor(value), axis).to(torch.int32)


def _cumsum(value: Value, axis: int = 0) -> Tensor:
    tensor = as_tensor(value)
    return tensor.cumsum(axis).to(tensor.dtype)


def _transpose(value: Value, perm: Sequence[int] | None = None) -> Tensor:
    tensor = as_tensor(value)
    return tensor.permute(tuple(reversed(range(tensor.dim()))) if perm is None else tuple(perm))


def _slice(value: Value, begin: int | Sequence[int], size: int | Sequence[int] | None = None) -> Tensor:
    tensor = as_tensor(value)
    rank = tensor.dim()
    begins = [*([begin] if isinstance(begin, int) else begin)]
    begins += [0] * (rank - len(begins))
    sizes = [-1] * rank if size is None else [*([size] if isinstance(size, int) else size)]
    sizes += [-1] * (rank - len(sizes))
    for axis, (start, count) in enumerate(zip(begins, sizes, strict=True)):
        length = tensor.shape[axis] - start if count < 0 else count
        if start < 0 or start + length > tensor.shape[axis]:
            raise ValueError(f"begin {start} and size {count} leave the axis {axis} of {tensor.shape[axis]}")
        tensor = tensor.narrow(axis, start, length)
    return tensor


def _strided_slice(
    value: Value,
    begin: Sequence[int],
    end: Sequence[int],
    strides: Sequence[int],
    begin_mask: int = 0,
    end_mask: int = 0,
) -> Tensor:
    tensor = as_tensor(value)
    for axis, stride in enumerate(strides):
        if stride < 1 or begin[axis] < 0 or end[axis] < 0:
            raise ValueError("only forward steps between positions from the front are modelled here")
        first = 0 if begin_mask >> axis & 1 else begin[axis]
        last = tensor.shape[axis] if end_mask >> axis & 1 else min(end[axis], tensor.shape[axis])
        tensor = tensor[(slice(None),) * axis + (slice(first, last, stride),)]
    return tensor


def _pad(value: Value, paddings: Sequence[Sequence[int]], filler: float = 0) -> Tensor:
    flat = [number for pair in reversed(list(paddings)) for number in pair]
    if min(flat, default=0) < 0:
        raise ValueError("a negative padding")
    return F.pad(as_tensor(value), flat, value=filler)


def _concat(first: Tensor, other: Tensor, axis: int = 0) -> Tensor:
    if first.dtype != other.dtype:
        raise TypeError(f"tfjs joins tensors of one dtype, not {first.dtype} and {other.dtype}")
    return torch.cat([first, other], axis)


def _gather(value: Value, indices: Tensor, axis: int = 0) -> Tensor:
    tensor = as_tensor(value)
    if indices.dtype != torch.int32:
        raise TypeError("tfjs gathers by int32")
    shape = (*tensor.shape[:axis], *indices.shape, *tensor.shape[axis + 1 :])
    return tensor.index_select(axis, indices.flatten()).reshape(shape)


def _one_hot(indices: Tensor, depth: int, on: float = 1, off: float = 0) -> Tensor:
    if depth < 2 or indices.dtype != torch.int32:
        raise ValueError("tfjs makes one-hot rows of int32 indices, two classes at least")
    hit = indices.unsqueeze(-1) == torch.arange(depth, dtype=torch.int32)
    return torch.where(hit, on, off).to(torch.int32)


def _matmul(left: Value, right: Value, turn_left: bool = False, turn_right: bool = False) -> Tensor:
    a, b = _matched(left, right)
    if a.dim() < 2 or a.dim() != b.dim() or a.shape[:-2] != b.shape[:-2]:
        raise ValueError(f"matrices of the shapes {tuple(a.shape)} and {tuple(b.shape)}")
    return (a.mT if turn_left else a) @ (b.mT if turn_right else b)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    if left.dim() not in {1, 2} or right.dim() not in {1, 2}:
        raise ValueError("tfjs has dot for vectors and matrices")
    return left @ right


def _softmax(value: Value, dim: int = -1) -> Tensor:
    tensor = as_tensor(value)
    if dim % tensor.dim() != tensor.dim() - 1:
        raise ValueError("tfjs has softmax along the last dimension only")
    return tensor.softmax(-1)


def _norm(value: Value, kind: str = "euclidean") -> Tensor:
    if kind != "euclidean":
        raise ValueError(f"only the euclidean norm is modelled here, not '{kind}'")
    tensor = as_tensor(value)
    return tensor.square().sum().sqrt()


def _squeeze(value: Value, axis: Sequence[int] | None = None) -> Tensor:
    tensor = as_tensor(value)
    return tensor.squeeze() if axis is None else tensor.squeeze(tuple(axis))


def _pairs(numbers: int | Sequence[int]) -> list[int]:
    return [numbers, numbers] if isinstance(numbers, int) else list(numbers)


def _inward(value: Value) -> Tensor:
    return as_tensor(value).permute(0, 3, 1, 2)


def _outward(value: Tensor) -> Tensor:
    return value.permute(0, 2, 3, 1)


def _conv2d(
    value: Value,
    weight: Tensor,
    strides: int | Sequence[int],
    pad: str | int,
    layout: str = "NHWC",
    dilations: int | Sequence[int] = 1,
) -> Tensor:
    stride, dilation = _pairs(strides), _pairs(dilations)
    if layout != "NHWC" or pad != "valid":
        raise ValueError("only NHWC pictures with 'valid' padding are modelled here")
    if max(stride) > 1 and max(dilation) > 1:
        raise ValueError("tfjs has no convolution with both a stride and a dilation")
    return _outward(F.conv2d(_inward(value), weight.permute(3, 2, 0, 1), None, stride, 0, dilation))


def _pool(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def call(value: Value, size: int | Sequence[int], strides: int | Sequence[int], pad: str | int) -> Tensor:
        if pad != "valid":
            raise ValueError("only 'valid' padding is modelled here")
        return _outward(function(_inward(value), _pairs(size), _pairs(strides)))

    return call


def _where(condition: Tensor, left: Value, right: Value) -> Tensor:
    a, b = as_tensor(left), as_tensor(right)
    if not a.shape == b.shape == condition.shape or a.dtype != b.dtype:
        raise ValueError("tfjs chooses between tensors of one shape and dtype")
    return torch.where(_truth(condition), a, b)


def _fill(shape: Sequence[int], value: Number, dtype: str = "float32") -> Tensor:
    return torch.full(tuple(shape), value, dtype=DTYPES[dtype])


def _scalar(value: Number, dtype: str | None = None) -> Tensor:
    return as_tensor(value) if dtype is None else torch.tensor(value, dtype=DTYPES[dtype])


def _range(start: float, stop: float, step: float = 1, dtype: str = "float32") -> Tensor:
    return torch.arange(start, stop, step).to(DTYPES[dtype])


FUNCTIONS: Mapping[str, Callable[..., Tensor]] = {
    **{name: _arithmetic(function) for name, function in (
        ("add", torch.add), ("sub", torch.sub), ("mul", torch.mul), ("div", _quotient), ("pow", torch.pow),
        ("mod", torch.remainder), ("maximum", torch.maximum), ("minimum", torch.minimum),
        ("atan2", torch.atan2),
    )},
    **{name: _comparison(function) for name, function in (
        ("equal", torch.eq), ("notEqual", torch.ne), ("less", torch.lt), ("lessEqual", torch.le),
        ("greater", torch.gt), ("greaterEqual", torch.ge),
    )},
    **{name: _float(getattr(torch, name)) for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "erf", "exp", "expm1",
        "floor", "log", "log1p", "neg", "abs", "reciprocal", "round", "rsqrt", "sigmoid", "sign",
        "sin", "sinh", "sqrt", "tan", "tanh",
    )},
    "relu": lambda value: as_tensor(value).relu(),
    "square": lambda value: as_tensor(value).square(),
    "isNaN": _float(torch.isnan),
    "isInf": _float(torch.isinf),
    "logicalAnd": _logic(torch.logical_and),
    "logicalOr": _logic(torch.logical_or),
    "logicalXor": _logic(torch.logical_xor),
    "logicalNot": lambda value: ~_truth(value),
    "where": _where,
    "sum": _reduction(torch.sum),
    "mean": _mean,
    "prod": _reduction(_product),
    "max": _reduction(torch.amax, number=False),
    "min": _reduction(torch.amin, number=False),
    "any": _all_of(torch.any),
    "all": _all_of(torch.all),
    "argMax": _place(torch.argmax),
    "argMin": _place(torch.argmin),
    "cumsum": _cumsum,
    "clone": lambda value: as_tensor(value).clone(),
    "cast": lambda value, dtype: as_tensor(value).to(DTYPES[dtype]),
    "reshape": lambda value, shape: as_tensor(value).reshape(tuple(shape)),
    "transpose": _transpose,
    "slice": _slice,
    "stridedSlice": _strided_slice,
    "pad": _pad,
    "tile": lambda value, times: as_tensor(value).tile(tuple(times)),
    "reverse": lambda value, axis: as_tensor(value).flip(_axes(axis, as_tensor(value).dim())),
    "gather": _gather,
    "oneHot": _one_hot,
    "matMul": _matmul,
    "dot": _dot,
    "softmax": _softmax,
    "norm": _norm,
    "squeeze": _squeeze,
    "conv2d": _conv2d,
    "maxPool": _pool(F.max_pool2d),
    "avgPool": _pool(F.avg_pool2d),
    "fill": _fill,
    "zeros": lambda shape, dtype="float32": _fill(shape, 0, dtype),
    "onesLike": lambda value: torch.ones_like(as_tensor(value)),
    "zerosLike": lambda value: torch.zeros_like(as_tensor(value)),
    "scalar": _scalar,
    "range": _range,
    "eye": torch.eye,
}  # fmt: skip
"""Functions of the `tf` namespace, by name."""

METHODS: Mapping[str, Callable[..., Tensor]] = {
    "concat": _concat,
    **{name: FUNCTIONS[name] for name in (
        "add", "sub", "mul", "div", "pow", "mod", "maximum", "minimum", "equal", "less", "greater", "exp",
        "log", "neg", "abs", "relu", "sqrt", "sum", "mean", "max", "min", "argMax", "clone", "cast",
        "reshape", "transpose", "slice", "matMul",
    )},
}  # fmt: skip
"""Methods of `tf.Tensor`, by name; the tensor comes first."""
