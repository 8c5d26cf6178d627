"""Complex numbers under other shapes, parts of them, and sums."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.plan.tracing.complex.numbers import REAL, Complex, axes, axis, made, parts_of, whole

aten: Any = torch.ops.aten


def _on_parts(function: Callable[..., torch.Tensor]) -> Callable[..., Complex]:
    """What is done to both parts alike, without looking at dimensions."""
    return lambda value, *args, **options: Complex(function(value.parts, *args, **_without_dtype(options)))


def _without_dtype(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: REAL.get(value, value) for name, value in options.items()}


def _with_dims(function: Callable[..., Any], *places: int, more: int = 0) -> Callable[..., Any]:
    """What is done to both parts alike, with dimensions at some places of the arguments after the tensor."""

    def call(value: Complex, *args: Any, **options: Any) -> Any:
        given = [axis(value, a, more) if place in places else a for place, a in enumerate(args)]
        options = {k: axis(value, v, more) if k == "dim" else v for k, v in _without_dtype(options).items()}
        made = function(value.parts, *given, **options)
        return Complex(made) if isinstance(made, torch.Tensor) else [Complex(part) for part in made]

    return call


def _shaped(function: Callable[..., torch.Tensor]) -> Callable[..., Complex]:
    """What takes a shape."""
    return lambda value, size, *_, **__: Complex(function(value.parts, [*size, 2]))


def _reduced(function: Callable[..., torch.Tensor]) -> Callable[..., Complex]:
    """What makes one element of many, of both parts alike."""

    def call(value: Complex, dim: Any = None, keepdim: bool = False, **_: Any) -> Complex:
        dims = axes(value, dim)
        return Complex(function(value.parts, dims, keepdim)) if dims else value

    return call


def _permuted(value: Complex, dims: Sequence[int]) -> Complex:
    return Complex(value.parts.permute([*(axis(value, dim) for dim in dims), value.rank]))


def _squeezed(value: Complex, dim: Any = None) -> Complex:
    return Complex(value.parts.squeeze(tuple(axes(value, dim))))


def _transposed(value: Complex) -> Complex:
    return Complex(value.parts.transpose(0, 1)) if value.rank > 1 else value


def _expanded(value: Complex, size: Sequence[int], **_: Any) -> Complex:
    return Complex(value.parts.expand([*size, 2]))


def _many(function: Callable[..., torch.Tensor], more: int) -> Callable[..., Complex]:
    """What makes one tensor of a list of them."""

    def call(values: Sequence[Any], dim: int = 0) -> Complex:
        each = [whole(value) for value in values]
        return Complex(function([value.parts for value in each], axis(each[0], dim, more)))

    return call


def _diagonal(value: Complex, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Complex:
    made = value.parts.diagonal(offset, axis(value, dim1), axis(value, dim2))  # (…, 2, along)
    return Complex(made.mT)


def _windows(value: Complex, dim: int, size: int, step: int) -> Complex:
    return Complex(value.parts.unfold(axis(value, dim), size, step).mT)


def _of_matrices(function: Callable[..., torch.Tensor]) -> Callable[..., Complex]:
    """What looks at the last two dimensions."""
    return lambda value, *args: Complex(function(value.parts.movedim(-1, 0), *args).movedim(0, -1))


def _gathered(value: Complex, dim: int, index: torch.Tensor, **_: Any) -> Complex:
    spread = index.unsqueeze(-1).expand(*index.shape, 2)
    return Complex(value.parts.gather(axis(value, dim), spread))


def _added_at(value: Complex, dim: int, index: torch.Tensor, source: Any) -> Complex:
    spread = index.unsqueeze(-1).expand(*index.shape, 2)
    return Complex(value.parts.scatter_add(axis(value, dim), spread, whole(source).parts))


def _added_rows(value: Complex, dim: int, index: torch.Tensor, source: Any, *, alpha: float = 1) -> Complex:
    return Complex(value.parts.index_add(axis(value, dim), index, whole(source).parts, alpha=alpha))


def _of_windows(gradient: Complex, size: Sequence[int], dim: int, length: int, step: int) -> Complex:
    parts = gradient.parts.mT  # (…, 2, length)
    return Complex(aten.unfold_backward(parts, [*size, 2], dim % len(size), length, step))


def _chosen(condition: torch.Tensor, one: Any, other: Any) -> Complex:
    return Complex(torch.where(condition.unsqueeze(-1), whole(one).parts, whole(other).parts))


def _masked(value: Complex, mask: torch.Tensor, fill: Any) -> Complex:
    real, imaginary = parts_of(fill)
    return made(
        torch.where(mask, 0.0 if real is None else real, value.real),
        torch.where(mask, 0.0 if imaginary is None else imaginary, value.imag),
    )


def _padded(value: Complex, pad: Sequence[int], fill: float = 0) -> Complex:
    return made(aten.constant_pad_nd(value.real, pad, fill), aten.constant_pad_nd(value.imag, pad, 0.0))


def _of_slice(function: Callable[..., torch.Tensor]) -> Callable[..., Complex]:
    """The gradient of a part of a tensor: that tensor's shape, a dimension, and which part."""
    return lambda gradient, size, dim, *rest: Complex(
        function(gradient.parts, [*size, 2], dim % len(size), *rest)
    )


def _rolled(value: Complex, shifts: Sequence[int], dims: Sequence[int] = ()) -> Complex:
    if dims:
        return Complex(value.parts.roll(shifts, [axis(value, dim) for dim in dims]))
    return Complex(value.parts.flatten(0, -2).roll(shifts, 0).reshape(value.parts.shape))


RULES: Mapping[str, Callable[..., Any]] = {
    "_reshape_alias": _shaped(torch.reshape),
    "_unsafe_view": _shaped(torch.reshape),
    "alias": _on_parts(aten.alias),
    "cat": _many(torch.cat, 0),
    "clone": _on_parts(torch.clone),
    "constant_pad_nd": _padded,
    "contiguous": lambda value: value,
    "cumsum": _with_dims(torch.cumsum, 0),
    "detach": _on_parts(aten.detach),
    "diagonal": _diagonal,
    "expand": _expanded,
    "flip": lambda value, dims: Complex(value.parts.flip([axis(value, dim) for dim in dims])),
    "gather": _gathered,
    "index": lambda value, indices: Complex(aten.index(value.parts, indices)),
    "index_add": _added_rows,
    "index_put": lambda value, indices, source, accumulate=False: Complex(
        aten.index_put(value.parts, indices, whole(source).parts, accumulate)
    ),
    "index_select": _with_dims(torch.index_select, 0),
    "lift_fresh": lambda value: value,
    "lift_fresh_copy": _on_parts(torch.clone),
    "masked_fill": _masked,
    "mean": _reduced(torch.mean),
    "permute": _permuted,
    "repeat": lambda value, times: Complex(value.parts.repeat([*times, 1])),
    "reshape": _shaped(torch.reshape),
    "roll": _rolled,
    "scatter_add": _added_at,
    "select": _with_dims(torch.select, 0),
    "select_backward": _of_slice(aten.select_backward),
    "select_scatter": lambda value, source, dim, index: Complex(
        torch.select_scatter(value.parts, source.parts, axis(value, dim), index)
    ),
    "slice": _with_dims(aten.slice, 0),
    "slice_backward": _of_slice(aten.slice_backward),
    "slice_scatter": lambda value, source, dim=0, *rest: Complex(
        aten.slice_scatter(value.parts, source.parts, axis(value, dim), *rest)
    ),
    "split": _with_dims(torch.split, 1),
    "split_with_sizes": _with_dims(aten.split_with_sizes, 1),
    "squeeze": _squeezed,
    "stack": _many(torch.stack, 1),
    "sum": _reduced(torch.sum),
    "sym_numel": lambda value: value.real.numel(),
    "sym_size": lambda value, dim: value.parts.shape[axis(value, dim)],
    "t": _transposed,
    "transpose": _with_dims(torch.transpose, 0, 1),
    "tril": _of_matrices(torch.tril),
    "triu": _of_matrices(torch.triu),
    "unbind": _with_dims(torch.unbind, 0),
    "unfold": _windows,
    "unfold_backward": _of_windows,
    "unsqueeze": _with_dims(torch.unsqueeze, 0, more=1),
    "view": _shaped(aten.view),
    "where": _chosen,
}
"""By the name of an operator, what computes it."""
