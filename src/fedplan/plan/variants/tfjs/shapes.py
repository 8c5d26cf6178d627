"""Rules for the same elements under another shape, and for parts of tensors."""

import math
from collections.abc import Mapping, Sequence

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node, Ref
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.gathering import take
from fedplan.plan.variants.tfjs.translator import (
    FOLDED,
    Extent,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    axis_of,
    fold,
    integer,
    integers,
    shifted,
)


def _permute(t: Translator, node: Node) -> Term:
    value, dims = node.args[:2]
    rank = len(t.shape(value))
    return t.transpose(t.tensor(value), [dim % max(rank, 1) for dim in integers(dims)])


def _transpose(t: Translator, node: Node) -> Term:
    value, first, second = node.args
    order = list(range(len(t.shape(value))))
    i, j = (integer(dim) % len(order) for dim in (first, second))
    order[i], order[j] = order[j], order[i]
    return t.transpose(t.tensor(value), order)


def _reshape(t: Translator, node: Node) -> Term:
    """Whatever the operation is called: the result's shape is known."""
    before, shape = t.shape(node.args[0]), t.result_shape(node)
    term = t.tensor(node.args[0])
    if shape == before:
        return term
    if sum(isinstance(extent, Varying) for extent in shape) > 1:
        return _with_ones(t, term, before, shape)
    return t.reshape(term, shape)


def _with_ones(t: Translator, term: Term, before: Sequence[Extent], shape: Sequence[Extent]) -> Term:
    """The term with axes of one element taken out and put in, when no more than that is asked for."""
    if [extent for extent in before if extent != 1] != [extent for extent in shape if extent != 1]:
        raise UnsayableError("Two extents of its result depend on the batch size; tfjs can leave out one.")
    if 1 in before:
        term = t.call("squeeze", term, tuple(axis for axis, extent in enumerate(before) if extent == 1))
    for axis, extent in enumerate(shape):
        if extent == 1:
            term = t.call("expandDims", term, axis)
    return term


def _expand(t: Translator, node: Node) -> Term:
    shape = t.result_shape(node)
    term = t.tensor(node.args[0])
    return term if shape == t.shape(node.args[0]) else t.broadcast(term, shape, t.result_dtype(node))


def _part(t: Translator, term: Term, rank: int, axis: int, begin: int, size: int) -> Term:
    """Elements [begin, begin + size) along one axis; a size of -1 takes the rest."""
    begins = tuple(begin if i == axis else 0 for i in range(rank))
    sizes = tuple(size if i == axis else -1 for i in range(rank))
    return t.call("slice", term, begins, sizes)


def _fixed(extent: Extent) -> int:
    if isinstance(extent, Varying):
        raise UnsayableError("It counts from the end of the batch, whose size tfjs does not know.")
    return extent


def _steps(
    t: Translator, term: Term, shape: Sequence[Extent], axis: int, begin: int, end: int | None, step: int = 1
) -> Term:
    """Every n-th element from a beginning to an end, if there is one; either may be counted from the end.

    Of more than four dimensions the result has three: what is before the axis, it, what is behind it.
    """
    if len(shape) > FOLDED:
        shape, term, axis = fold(shape, axis), t.reshape(term, fold(shape, axis)), 1
    rank = len(shape)
    whole = sum(1 << i for i in range(rank) if i != axis)
    begins, ends, strides = (
        tuple(number if i == axis else other for i in range(rank))
        for number, other in ((begin, 0), (end or 0, 0), (step, 1))
    )
    last = whole if end is not None else whole | 1 << axis
    return t.call("stridedSlice", term, begins, ends, strides, whole, last)


def _select(t: Translator, node: Node) -> Term:
    value, dim, index = node.args
    shape = t.shape(value)
    axis, place = axis_of(dim, shape), integer(index)
    if place >= 0 or not isinstance(shape[axis], Varying):
        place += _fixed(shape[axis]) if place < 0 else 0
        chosen = _part(t, t.tensor(value), len(shape), axis, place, 1)
    else:
        chosen = _steps(t, t.tensor(value), shape, axis, place, place + 1 or None)
    return t.reshape(chosen, t.result_shape(node))


_ENDLESS = 2**31
"""Where PyTorch ends a slice that has no end, or later."""


def _slice(t: Translator, node: Node) -> Term:
    value, dim, start, end, step = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis, stride = axis_of(dim, shape), integer(step)
    extent, result = shape[axis], t.result_shape(node)[axis]
    if result == extent:
        return term
    if isinstance(extent, Varying):
        part = _slice_of_the_batch(t, term, shape, axis, (start, end, stride), result)
    else:
        begin, reach = _bounds(start, end, extent)
        if stride == 1:
            return _part(t, term, len(shape), axis, begin, reach)
        part = _steps(t, term, shape, axis, begin, begin + reach, stride)
    return part if len(shape) <= FOLDED else t.reshape(part, t.result_shape(node))


def _bounds(start: Arg, end: Arg, extent: int) -> tuple[int, int]:
    """First element of a slice, and how many are in its reach."""
    begin = 0 if start is None else integer(start)
    begin = min(max(begin + (extent if begin < 0 else 0), 0), extent)
    last = extent if end is None or isinstance(end, Ref) else integer(end)
    last = min(max(last + (extent if last < 0 else 0), begin), extent)
    return begin, last - begin


def _slice_of_the_batch(
    t: Translator,
    term: Term,
    shape: Sequence[Extent],
    axis: int,
    bounds: tuple[Arg, Arg, int],
    result: Extent,
) -> Term:
    """Some rows of as many as there are; how many there are, only tfjs knows."""
    start, end, stride = bounds
    if isinstance(start, Ref) or isinstance(end, Ref):
        return _rows_from(t, term, shape, axis, start, stride, result)
    begin = 0 if start is None else integer(start)
    last = None if end is None or integer(end) >= _ENDLESS else integer(end)
    if begin >= 0 and last is None and stride == 1:
        return _part(t, term, len(shape), axis, begin, -1)
    return _steps(t, term, shape, axis, begin, last, stride)


def _rows_from(
    t: Translator,
    term: Term,
    shape: Sequence[Extent],
    axis: int,
    start: Arg,
    stride: int,
    result: Extent,
) -> Term:
    """As many rows as a value has that exists already, chosen by their numbers."""
    places = t.counted(result)
    if stride != 1:
        places = t.call("mul", places, t.call("scalar", stride, "int32"))
    if start is not None and start != 0:
        places = t.call("add", places, t.call("cast", t.tensor(start), "int32"))
    made = [result if i == axis else extent for i, extent in enumerate(shape)]
    return take(t, term, shape, axis, places, made)


def _split(t: Translator, node: Node) -> tuple[Term, ...]:
    """One slice for each piece, by the pieces' own shapes."""
    value, _, dim = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis, begin, pieces = axis_of(dim, shape), 0, []
    for index in range(len(node.results)):
        size = _fixed(t.result_shape(node, index)[axis])
        pieces.append(_part(t, term, len(shape), axis, begin, size))
        begin += size
    return tuple(pieces)


def _unbind(t: Translator, node: Node) -> tuple[Term, ...]:
    value, dim = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis = axis_of(dim, shape)
    return tuple(
        t.reshape(_part(t, term, len(shape), axis, index, 1), t.result_shape(node, index))
        for index in range(len(node.results))
    )


def _cat(t: Translator, node: Node) -> Term:
    values, dim = padded(node)
    if not isinstance(values, tuple) or isinstance(values, Ref):
        raise UnsayableError("It joins something that is no list.")
    full = [value for value in values if t.shape(value) != (0,)] or values[:1]  # PyTorch skips what is empty
    dtype = t.result_dtype(node)
    return t.join([t.tensor(value, dtype) for value in full], axis_of(dim, t.result_shape(node)))


def _stack(t: Translator, node: Node) -> Term:
    values, dim = padded(node)
    shape = t.result_shape(node)
    axis = axis_of(dim, shape)
    row = [1 if i == axis else extent for i, extent in enumerate(shape)]
    assert isinstance(values, tuple)
    terms = [t.reshape(t.tensor(value, t.result_dtype(node)), row) for value in values]
    return t.join(terms, axis)


def _put(t: Translator, value: Arg, part: Term, axis: int, begin: int, size: int, dtype: str) -> Term:
    """The value with the elements [begin, begin + size) along an axis exchanged for a part."""
    shape, whole = t.shape(value), t.tensor(value, dtype)
    rank, extent = len(shape), _fixed(shape[axis])
    pieces = [part]
    if begin > 0:
        pieces.insert(0, _part(t, whole, rank, axis, 0, begin))
    if begin + size < extent:
        pieces.append(_part(t, whole, rank, axis, begin + size, -1))
    return t.join(pieces, axis)


def _select_scatter(t: Translator, node: Node) -> Term:
    value, source, dim, index = node.args
    shape, dtype = t.shape(value), t.result_dtype(node)
    axis, place = axis_of(dim, shape), integer(index)
    place += _fixed(shape[axis]) if place < 0 else 0
    row = t.reshape(t.tensor(source, dtype), [1 if i == axis else e for i, e in enumerate(shape)])
    return _put(t, value, row, axis, place, 1, dtype)


def _slice_scatter(t: Translator, node: Node) -> Term:
    value, source, dim, start, end, step = padded(node)
    shape, dtype = t.shape(value), t.result_dtype(node)
    axis = axis_of(dim, shape)
    part = t.tensor(source, dtype)
    if t.shape(source) == shape:
        return part
    if step != 1:
        raise UnsayableError("It writes every n-th element.")
    begin, size = _bounds(start, end, _fixed(shape[axis]))
    return _put(t, value, part, axis, begin, size, dtype)


def _repeat(t: Translator, node: Node) -> Term:
    """First as often as is known, then by the batch."""
    value, times = node.args
    assert isinstance(times, tuple)
    counts = [t.extent(count) for count in times]
    shape = (*(1,) * (len(counts) - len(t.shape(value))), *t.shape(value))
    term = t.reshape(t.tensor(value), shape) if shape != t.shape(value) else t.tensor(value)
    known = [1 if isinstance(count, Varying) else count for count in counts]
    if any(count != 1 for count in known):
        term = t.call("tile", term, tuple(known))
    made = t.result_shape(node)
    wide = [
        count if isinstance(count, Varying) else extent for count, extent in zip(counts, made, strict=True)
    ]
    for axis, count in enumerate(counts):
        if isinstance(count, Varying):
            inner = shape[axis]  # what is repeated as a whole
            wide[axis : axis + 1] = [count, inner]
            rows = [1 if extent is count else extent for extent in wide]
            term = t.broadcast(t.reshape(term, rows), wide, t.result_dtype(node))
            term = t.reshape(term, made)
    return term


def _flip(t: Translator, node: Node) -> Term:
    value, dims = node.args
    shape, term = t.shape(value), t.tensor(value)
    axes = {dim % max(len(shape), 1) for dim in integers(dims)}
    if len(shape) <= _REVERSIBLE:
        return t.call("reverse", term, tuple(sorted(axes)))
    for axis in axes:
        term = t.call("reverse", t.reshape(term, fold(shape, axis)), (1,))
    return t.reshape(term, shape)


_REVERSIBLE = 4
"""The most dimensions of which tfjs turns some round."""


def _pad(t: Translator, node: Node) -> Term:
    """Negative amounts cut."""
    value, pads, filler = padded(node)
    amounts, shape = integers(pads), t.shape(value)
    pairs = [(0, 0)] * (len(shape) - len(amounts) // 2)
    pairs += [(amounts[i], amounts[i + 1]) for i in range(len(amounts) - 2, -1, -2)]
    term = t.tensor(value)
    for axis, (before, after) in enumerate(pairs):
        if before < 0 or after < 0:
            part = _steps(t, term, shape, axis, max(-before, 0), after if after < 0 else None)
            cut = shifted(shape[axis], min(before, 0) + min(after, 0))
            shape = (*shape[:axis], cut, *shape[axis + 1 :])
            term = part if len(shape) <= FOLDED else t.reshape(part, shape)
    around = [(max(before, 0), max(after, 0)) for before, after in pairs]
    number = t.operand(filler, "float32")
    if not isinstance(number, float) or math.isfinite(number):
        return t.pad(term, shape, around, number)
    made, dtype = t.result_shape(node), t.result_dtype(node)  # WebGL cannot write infinity around a tensor
    inside = t.call("cast", t.pad(t.call("onesLike", term), shape, around), "bool")
    return t.where(inside, t.pad(term, shape, around), t.full(made, number, dtype), made)


def _diagonal(t: Translator, node: Node) -> Term:
    """Of each row the element that is as far from the main diagonal as the offset says."""
    value, offset, first, second = padded(node)
    shape, dtype = t.shape(value), t.dtype(value)
    rows, columns = (axis_of(dim, shape) for dim in (first, second))
    order = [*(axis for axis in range(len(shape)) if axis not in (rows, columns)), rows, columns]
    apart = integer(offset)
    height, width = shape[rows], shape[columns]
    down = t.call("add", t.counted(height), t.call("scalar", apart, "int32"))
    hit = t.call("equal", t.reshape(down, (height, 1)), t.counted(width))  # (rows, columns)
    number = "int32" if dtype == "bool" else dtype
    turned = t.transpose(t.tensor(value, number), order)
    turned_shape = [shape[axis] for axis in order]
    chosen = t.call(
        "where",
        *(
            t.call("reshape", part, (-1,)) if len(shape) > 4 else part
            for part in (t.broadcast(hit, turned_shape, "bool"), turned, t.full(turned_shape, 0, number))
        ),
    )
    if len(shape) > 4:
        chosen = t.reshape(chosen, turned_shape)
    line = t.call("sum", chosen, (len(shape) - 1,))
    length = t.result_shape(node)[-1]
    if length != height:
        begin = max(-apart, 0)
        line = _part(
            t, line, len(shape) - 1, len(shape) - 2, begin, -1 if isinstance(length, Varying) else length
        )
    return t.call("cast", line, "bool") if dtype == "bool" else line


RULES: Mapping[str, Rule] = {
    "aten.permute.default": _permute,
    "aten.transpose.int": _transpose,
    **dict.fromkeys(
        ("aten.reshape.default", "aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims",
         "aten.unsqueeze.default"),
        _reshape,
    ),
    "aten.expand.default": _expand,
    "aten.select.int": _select,
    "aten.slice.Tensor": _slice,
    "aten.split.Tensor": _split,
    "aten.split_with_sizes.default": _split,
    "aten.unbind.int": _unbind,
    "aten.cat.default": _cat,
    "aten.stack.default": _stack,
    "aten.select_scatter.default": _select_scatter,
    "aten.slice_scatter.default": _slice_scatter,
    "aten.repeat.default": _repeat,
    "aten.flip.default": _flip,
    "aten.constant_pad_nd.default": _pad,
    "aten.diagonal.default": _diagonal,
}  # fmt: skip
"""By the name of the operation."""
