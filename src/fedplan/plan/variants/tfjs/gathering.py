"""Rules for elements that are chosen by numbers along one dimension, and for those put at such places.

tfjs puts elements only into tensors of a known shape. What follows the batch is put with one-hot rows: a row
for each element that is put, with a one at its place.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from fedplan.plan.ir.graph import Node, Ref
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    axis_of,
    fold,
    product,
)

_SLICED = 4
"""The most dimensions of a tensor out of which tfjs takes slices."""


def take(
    t: Translator, term: Term, shape: Sequence[Extent], axis: int, index: Term, made: Sequence[Extent]
) -> Term:
    """Slices along an axis; `made` is the shape of the result."""
    if len(shape) <= _SLICED:
        return t.call("gather", term, index, axis)
    lines = t.reshape(term, fold(shape, axis))
    return t.reshape(t.call("gather", lines, t.call("reshape", index, (-1,)), 1), made)


def hot_rows(
    t: Translator, places: Term, shape: Sequence[Extent], extent: Extent, dtype: str = "int32"
) -> Term:
    """A row for each place, with a one there and zeros elsewhere: (*shape, extent)."""
    made = (*shape, extent)
    if isinstance(extent, Varying) or extent < 2:  # tfjs has one-hot rows of two numbers at least
        found = t.call("equal", t.reshape(places, (*shape, 1)), t.counted(extent))
        return t.call("cast", found, dtype)
    rows = t.call("cast", t.call("oneHot", t.call("reshape", places, (-1,)), extent), dtype)
    return rows if len(made) == 2 else t.reshape(rows, made)  # versions differ in the dtype of oneHot


def number_of(dtype: str) -> str:
    """The dtype in which elements are moved about; truth values count as numbers."""
    return "int32" if dtype == "bool" else dtype


def back(t: Translator, term: Term, dtype: str) -> Term:
    """Elements that were moved about, in their own dtype."""
    return t.call("cast", term, "bool") if dtype == "bool" else term


# -- along one dimension: gather, scatter --------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class _Rows:
    """A tensor as a matrix: one of its axes is across, the others are the rows."""

    rows: Extent
    across: Extent
    term: Term


def _as_rows(t: Translator, term: Term, shape: Sequence[Extent], axis: int) -> _Rows:
    others = [i for i in range(len(shape)) if i != axis]
    turned = t.transpose(term, [*others, axis])
    rows = product([shape[i] for i in others])
    return _Rows(rows, shape[axis], turned if len(shape) == 2 else t.reshape(turned, (rows, shape[axis])))


def _from_rows(t: Translator, term: Term, shape: Sequence[Extent], axis: int) -> Term:
    """A matrix of rows as the tensor of a shape that it was."""
    others = [i for i in range(len(shape)) if i != axis]
    turned = term if len(shape) == 2 else t.reshape(term, [shape[i] for i in (*others, axis)])
    places = {i: place for place, i in enumerate((*others, axis))}
    return t.transpose(turned, [places[i] for i in range(len(shape))])


def _pairs(t: Translator, places: _Rows) -> Term:
    """Each place with the number of its row before it: (rows · across, 2)."""
    numbers = t.reshape(t.counted(places.rows), (places.rows, 1))
    if places.across != 1:
        numbers = t.call("add", numbers, t.call("zerosLike", places.term))
    columns = [t.call("reshape", term, (-1, 1)) for term in (numbers, places.term)]
    return t.join(columns, 1)


def _taken(t: Translator, table: Term, places: _Rows) -> Term:
    """From each row of a table the elements at the places of that row: (rows, across)."""
    if places.rows == 1:
        line = t.call("gather", t.call("reshape", table, (-1,)), t.call("reshape", places.term, (-1,)), 0)
    else:
        line = t.call("gatherND", table, _pairs(t, places))
    return t.reshape(line, (places.rows, places.across))


def pick(
    t: Translator, term: Term, shape: Sequence[Extent], axis: int, index: Term, chosen: Sequence[Extent]
) -> Term:
    """For each element of an index, of the shape `chosen`, the element at that place along an axis."""
    table = _as_rows(t, term, shape, axis)
    return _from_rows(t, _taken(t, table.term, _as_rows(t, index, chosen, axis)), chosen, axis)


def _within(t: Translator, term: Term, shape: Sequence[Extent], chosen: Sequence[Extent]) -> Term:
    """The first elements along each axis, as many as another shape has."""
    if tuple(shape) == tuple(chosen):
        return term
    if any(isinstance(there, Varying) and here != there for here, there in zip(shape, chosen, strict=True)):
        raise UnsayableError("It reads some of the rows, and how many depends on the batch size.")
    sizes = tuple(-1 if here == there else there for here, there in zip(shape, chosen, strict=True))
    return t.call("slice", term, (0,) * len(sizes), sizes)


def _gather(t: Translator, node: Node) -> Term:
    value, dim, index = node.args[:3]
    shape, chosen, dtype = t.shape(value) or (1,), t.shape(index) or (1,), t.dtype(value)
    axis = axis_of(dim, shape)
    reached = [shape[i] if i == axis else extent for i, extent in enumerate(chosen)]
    term, places = (
        t.reshape(term, known) if known == (1,) else term
        for term, known in ((t.tensor(value, number_of(dtype)), shape), (t.tensor(index, "int32"), chosen))
    )
    found = pick(t, _within(t, term, shape, reached), reached, axis, places, chosen)
    return back(t, found if t.shape(index) else t.reshape(found, ()), dtype)


def _scatter_add(t: Translator, node: Node) -> Term:
    value, dim, index, source = node.args
    shape, chosen, dtype = t.shape(value), t.shape(index), t.result_dtype(node)
    axis = axis_of(dim, shape)
    places = _as_rows(t, t.tensor(index, "int32"), chosen, axis)
    given = _within(t, t.tensor(source, dtype), t.shape(source), chosen)
    summed = _added(t, places, _as_rows(t, given, chosen, axis).term, shape[axis], dtype)
    reached = [shape[i] if i == axis else extent for i, extent in enumerate(chosen)]
    made = _widened(t, _from_rows(t, summed, reached, axis), reached, shape)
    return t.call("add", t.tensor(value, dtype), made)


def _added(t: Translator, places: _Rows, given: Term, extent: Extent, dtype: str) -> Term:
    """Elements added up at their places in each row: (rows, extent)."""
    if not isinstance(places.rows, Varying) and not isinstance(extent, Varying):
        return t.call("scatterND", _pairs(t, places), t.call("reshape", given, (-1,)), (places.rows, extent))
    hot = _hot(t, places, extent, dtype)
    if places.across == 1:
        return t.call("mul", hot, given)
    return t.call("sum", t.call("mul", hot, t.reshape(given, (places.rows, places.across, 1))), (1,))


def _hot(t: Translator, places: _Rows, extent: Extent, dtype: str = "int32") -> Term:
    """One-hot rows of places, those of one row stacked where there are several: (rows, across, extent)."""
    if places.across == 1:
        return hot_rows(t, t.call("reshape", places.term, (-1,)), (places.rows,), extent, dtype)
    return hot_rows(t, places.term, (places.rows, places.across), extent, dtype)


def _widened(t: Translator, term: Term, shape: Sequence[Extent], wanted: Sequence[Extent]) -> Term:
    """With zeros behind each axis, up to another shape."""
    pairs = []
    for extent, wide in zip(shape, wanted, strict=True):
        if extent != wide and (isinstance(extent, Varying) or isinstance(wide, Varying)):
            raise UnsayableError("It writes to some of the rows, and how many depends on the batch size.")
        pairs.append((0, 0 if isinstance(extent, Varying) or isinstance(wide, Varying) else wide - extent))
    return t.pad(term, shape, pairs, 0)


def _scatter(t: Translator, node: Node) -> Term:
    """Writes elements, or one number, at places along a dimension; the last of several at a place stays."""
    value, dim, index, source = node.args[:4]
    shape, chosen, dtype = t.shape(value), t.shape(index), t.result_dtype(node)
    number, axis = number_of(dtype), axis_of(dim, shape)
    places = _as_rows(t, t.tensor(index, "int32"), chosen, axis)
    reached = [shape[i] if i == axis else extent for i, extent in enumerate(chosen)]
    if isinstance(source, Ref) and t.shape(source):
        given = _within(t, t.tensor(source, number), t.shape(source), chosen)
        hit, written = _last(t, places, _as_rows(t, given, chosen, axis).term, shape[axis], number)
    else:
        hit = _hit(t, places, shape[axis])
        written = t.broadcast(t.tensor(source, number), (places.rows, shape[axis]), number)
    hit, written = (
        _widened(t, _from_rows(t, term, reached, axis), reached, shape) for term in (hit, written)
    )
    made = t.where(t.call("cast", hit, "bool"), written, t.tensor(value, number), shape)
    return back(t, made, dtype)


def _hit(t: Translator, places: _Rows, extent: Extent) -> Term:
    """Which elements of each row are at one of the places, as ones and zeros: (rows, extent)."""
    hot = _hot(t, places, extent)
    return hot if places.across == 1 else t.call("max", hot, (1,))


def _last(t: Translator, places: _Rows, given: Term, extent: Extent, dtype: str) -> tuple[Term, Term]:
    """Which elements of each row are written, all others zero, and for each the last one that is written."""
    wide = (places.rows, extent)
    if places.across == 1:
        return _hit(t, places, extent), t.broadcast(given, wide, dtype)
    turns = t.call("add", t.counted(places.across), t.call("scalar", 1, "int32"))
    hot = t.call("mul", _hot(t, places, extent), t.reshape(turns, (places.across, 1)))
    last = t.call("max", hot, (1,))
    which = t.call("maximum", t.call("sub", last, t.call("scalar", 1, "int32")), t.call("scalar", 0, "int32"))
    return last, _taken(t, given, _Rows(*wide, which))


def _index_select(t: Translator, node: Node) -> Term:
    value, dim, index = node.args
    shape, dtype = t.shape(value), t.dtype(value)
    if not shape:
        return t.tensor(value)
    term = t.tensor(value, number_of(dtype))
    found = take(t, term, shape, axis_of(dim, shape), t.tensor(index, "int32"), t.result_shape(node))
    return back(t, found if t.shape(index) else t.reshape(found, t.result_shape(node)), dtype)


RULES: Mapping[str, Rule] = {
    "aten.gather.default": _gather,
    "aten.index_select.default": _index_select,
    "aten.scatter.src": _scatter,
    "aten.scatter.value": _scatter,
    "aten.scatter_add.default": _scatter_add,
}
"""By the name of the operation."""
