"""Rules for the same elements under another shape, and for tensors made of sizes and numbers."""

from collections.abc import Mapping, Sequence

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node, Ref
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    integer,
    integers,
)


def _permute(t: Translator, node: Node) -> Term:
    value, dims = node.args[:2]
    rank = len(t.shape(value))
    return t.call("transpose", t.tensor(value), tuple(dim % max(rank, 1) for dim in integers(dims)))


def _transpose(t: Translator, node: Node) -> Term:
    value, first, second = node.args
    order = list(range(len(t.shape(value))))
    i, j = (integer(dim) % len(order) for dim in (first, second))
    order[i], order[j] = order[j], order[i]
    return t.call("transpose", t.tensor(value), tuple(order))


def _reshape(t: Translator, node: Node) -> Term:
    """Whatever the operation is called: the result's shape is known."""
    shape = t.result_shape(node)
    term = t.tensor(node.args[0])
    return term if shape == t.shape(node.args[0]) else t.reshape(term, shape)


def _expand(t: Translator, node: Node) -> Term:
    shape = t.result_shape(node)
    term = t.tensor(node.args[0])
    return term if shape == t.shape(node.args[0]) else t.broadcast(term, shape, t.result_dtype(node))


def _part(t: Translator, term: Term, rank: int, axis: int, begin: int, size: int) -> Term:
    """Elements [begin, begin + size) along one axis; a size of -1 takes the rest."""
    begins = tuple(begin if i == axis else 0 for i in range(rank))
    sizes = tuple(size if i == axis else -1 for i in range(rank))
    return t.call("slice", term, begins, sizes)


def _select(t: Translator, node: Node) -> Term:
    value, dim, index = node.args
    shape = t.shape(value)
    axis, place = _axis(dim, shape), integer(index)
    if place < 0:
        place += _fixed(shape[axis])
    return t.reshape(_part(t, t.tensor(value), len(shape), axis, place, 1), t.result_shape(node))


def _axis(dim: Arg, shape: Sequence[Extent]) -> int:
    return integer(dim) % max(len(shape), 1)


def _fixed(extent: Extent) -> int:
    if isinstance(extent, Varying):
        raise UnsayableError("It counts from the end of the batch, whose size tfjs does not know.")
    return extent


def _bounds(start: Arg, end: Arg, extent: Extent, result: Extent) -> tuple[int, int]:
    """First element of a slice, and how many are in its reach, -1 for all that follow."""
    begin = 0 if start is None else start
    if isinstance(extent, Varying):
        if result == extent:
            return 0, -1
        first = integer(begin)
        if first < 0 or isinstance(end, Ref) or (isinstance(end, int) and end < 0):
            raise UnsayableError("It counts from the end of the batch, whose size tfjs does not know.")
        if isinstance(result, Varying):
            return first, -1
        return first, result
    begin = min(max(integer(begin) + (extent if integer(begin) < 0 else 0), 0), extent)
    last = extent if end is None or isinstance(end, Ref) else integer(end)
    last = min(max(last + (extent if last < 0 else 0), begin), extent)
    return begin, last - begin


def _slice(t: Translator, node: Node) -> Term:
    value, dim, start, end, step = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis, stride = _axis(dim, shape), integer(step)
    begin, reach = _bounds(start, end, shape[axis], t.result_shape(node)[axis])
    if stride == 1 and (reach < 0 or not isinstance(shape[axis], Varying)):
        return _part(t, term, len(shape), axis, begin, reach)
    if reach < 0:
        raise UnsayableError("It takes every n-th sample of a batch whose size tfjs does not know.")
    whole = sum(1 << i for i in range(len(shape)) if i != axis)
    begins, ends, strides = (
        tuple(number if i == axis else other for i in range(len(shape)))
        for number, other in ((begin, 0), (begin + reach, 0), (stride, 1))
    )
    return t.call("stridedSlice", term, begins, ends, strides, whole, whole)


def _split(t: Translator, node: Node) -> tuple[Term, ...]:
    """One slice for each piece, by the pieces' own shapes."""
    value, _, dim = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis, begin, pieces = _axis(dim, shape), 0, []
    for index in range(len(node.results)):
        size = _fixed(t.result_shape(node, index)[axis])
        pieces.append(_part(t, term, len(shape), axis, begin, size))
        begin += size
    return tuple(pieces)


def _unbind(t: Translator, node: Node) -> tuple[Term, ...]:
    value, dim = padded(node)
    shape, term = t.shape(value), t.tensor(value)
    axis = _axis(dim, shape)
    return tuple(
        t.reshape(_part(t, term, len(shape), axis, index, 1), t.result_shape(node, index))
        for index in range(len(node.results))
    )


def join(t: Translator, terms: Sequence[Term], axis: int) -> Term:
    """The terms one behind the other. syft.js finds no tensors inside of a list, so it is two by two."""
    joined = terms[0]
    for term in terms[1:]:
        joined = t.method(joined, "concat", term, axis)
    return joined


def _cat(t: Translator, node: Node) -> Term:
    values, dim = padded(node)
    if not isinstance(values, tuple) or isinstance(values, Ref):
        raise UnsayableError("It joins something that is no list.")
    full = [value for value in values if t.shape(value) != (0,)] or values[:1]  # PyTorch skips what is empty
    dtype = t.result_dtype(node)
    return join(t, [t.tensor(value, dtype) for value in full], _axis(dim, t.result_shape(node)))


def _stack(t: Translator, node: Node) -> Term:
    values, dim = padded(node)
    shape = t.result_shape(node)
    axis = _axis(dim, shape)
    row = [1 if i == axis else extent for i, extent in enumerate(shape)]
    assert isinstance(values, tuple)
    terms = [t.reshape(t.tensor(value, t.result_dtype(node)), row) for value in values]
    return join(t, terms, axis)


def _put(t: Translator, value: Arg, part: Term, axis: int, begin: int, size: int, dtype: str) -> Term:
    """The value with the elements [begin, begin + size) along an axis exchanged for a part."""
    shape, whole = t.shape(value), t.tensor(value, dtype)
    rank, extent = len(shape), _fixed(shape[axis])
    pieces = [part]
    if begin > 0:
        pieces.insert(0, _part(t, whole, rank, axis, 0, begin))
    if begin + size < extent:
        pieces.append(_part(t, whole, rank, axis, begin + size, -1))
    return join(t, pieces, axis)


def _select_scatter(t: Translator, node: Node) -> Term:
    value, source, dim, index = node.args
    shape, dtype = t.shape(value), t.result_dtype(node)
    axis, place = _axis(dim, shape), integer(index)
    place += _fixed(shape[axis]) if place < 0 else 0
    row = t.reshape(t.tensor(source, dtype), [1 if i == axis else e for i, e in enumerate(shape)])
    return _put(t, value, row, axis, place, 1, dtype)


def _slice_scatter(t: Translator, node: Node) -> Term:
    value, source, dim, start, end, step = padded(node)
    shape, dtype = t.shape(value), t.result_dtype(node)
    axis = _axis(dim, shape)
    part = t.tensor(source, dtype)
    if t.shape(source) == shape:
        return part
    if step != 1:
        raise UnsayableError("It writes every n-th element.")
    begin, size = _bounds(start, end, shape[axis], t.shape(source)[axis])
    return _put(t, value, part, axis, begin, size, dtype)


def _repeat(t: Translator, node: Node) -> Term:
    value, times = node.args
    repeats = integers(times)
    shape = t.shape(value)
    row = (*(1,) * (len(repeats) - len(shape)), *shape)
    term = t.reshape(t.tensor(value), row) if row != shape else t.tensor(value)
    return t.call("tile", term, repeats)


def _flip(t: Translator, node: Node) -> Term:
    value, dims = node.args
    rank = max(len(t.shape(value)), 1)
    return t.call("reverse", t.tensor(value), tuple(dim % rank for dim in integers(dims)))


def _pad(t: Translator, node: Node) -> Term:
    value, pads, filler = padded(node)
    amounts = integers(pads)
    if min(amounts, default=0) < 0:
        raise UnsayableError("It pads with a negative number; cut with slicing instead.")
    rank = len(t.shape(value))
    pairs = [(0, 0)] * (rank - len(amounts) // 2)
    pairs += [(amounts[i], amounts[i + 1]) for i in range(len(amounts) - 2, -1, -2)]
    return t.call("pad", t.tensor(value), tuple(pairs), t.operand(filler, "float32"))


def _index_select(t: Translator, node: Node) -> Term:
    value, dim, index = node.args
    return t.call("gather", t.tensor(value), t.tensor(index, "int32"), _axis(dim, t.shape(value)))


def _full(value_at: int | None, constant: float = 0) -> Rule:
    """A tensor of the result's shape and dtype, of the number in an argument or of a constant."""

    def rule(t: Translator, node: Node) -> Term:
        number = constant if value_at is None else node.args[value_at]
        shape, dtype = t.result_shape(node), t.result_dtype(node)
        if isinstance(number, bool | int | float):
            return t.full(shape, number, dtype)
        filler = t.tensor(number, dtype)
        return t.broadcast(filler, shape, dtype) if shape else filler

    return rule


def _range(t: Translator, node: Node) -> Term:
    start, end, step = (t.operand(number) for number in padded(node)[:3])
    if isinstance(start, Term) or isinstance(end, Term) or isinstance(step, Term):
        raise UnsayableError("Its numbers depend on the batch size.")
    return t.call("range", start, end, step, t.result_dtype(node))


def _eye(t: Translator, node: Node) -> Term:
    return t.call("cast", t.call("eye", integer(node.args[0])), t.result_dtype(node))


def _size(t: Translator, node: Node) -> Term | int:
    value, dim = node.args
    shape = t.shape(value)
    number = t.count(t.tensor(value), shape, [_axis(dim, shape)])
    return number if isinstance(number, Term) else int(number)


def _numel(t: Translator, node: Node) -> Term | int:
    value = node.args[0]
    number = t.count(t.tensor(value), t.shape(value), range(len(t.shape(value))))
    return number if isinstance(number, Term) else int(number)


def _size_arithmetic(command: str) -> Rule:
    """Arithmetic on numbers that vary with the batch is done with tensors of one number."""

    def rule(t: Translator, node: Node) -> Term:
        return t.call(command, *(t.operand(arg, None) for arg in node.args))

    return rule


def _floor_quotient(t: Translator, node: Node) -> Term:
    return t.call("floor", t.call("div", *(t.operand(arg) for arg in node.args)))


def _as_is(t: Translator, node: Node) -> Term:
    return t.tensor(node.args[0])


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
    "aten.index_select.default": _index_select,
    "aten.full.default": _full(1),
    "aten.full_like.default": _full(1),
    "aten.scalar_tensor.default": _full(0),
    "aten.ones_like.default": _full(None, 1),
    "aten.zeros_like.default": _full(None, 0),
    "aten.arange.start_step": _range,
    "aten.eye.default": _eye,
    "aten.sym_size.int": _size,
    "aten.sym_numel.default": _numel,
    "sym.add": _size_arithmetic("add"),
    "sym.sub": _size_arithmetic("sub"),
    "sym.mul": _size_arithmetic("mul"),
    "sym.truediv": _size_arithmetic("div"),
    "sym.mod": _size_arithmetic("mod"),
    "sym.max": _size_arithmetic("maximum"),
    "sym.min": _size_arithmetic("minimum"),
    "sym.neg": _size_arithmetic("neg"),
    "sym.floordiv": _floor_quotient,
    "sym.float": _as_is,
}  # fmt: skip
"""By the name of the operation."""
