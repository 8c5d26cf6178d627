"""Rules for elements that are chosen by numbers along several dimensions at once, and for those put there."""

import dataclasses
import itertools
from collections.abc import Mapping, Sequence

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node, Ref
from fedplan.plan.variants.tfjs import products
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.gathering import back, hot_rows, number_of, take
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    product,
)

Shape = tuple[Extent, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class _Places:
    """Where elements of a tensor are.

    Attributes:
        shape: of the tensor.
        axes: those that have an index, the one that follows the batch first; no more than one does.
        index: an index for each of these axes.
        together: what the indices have in common when they are broadcast.
        first: the axis of the chosen elements at which `together` begins.
    """

    shape: Shape
    axes: tuple[int, ...]
    index: tuple[Arg, ...]
    together: Shape
    first: int

    @property
    def others(self) -> tuple[int, ...]:
        """Axes without an index."""
        return tuple(axis for axis in range(len(self.shape)) if axis not in self.axes)

    @property
    def chosen(self) -> Shape:
        """The shape of the chosen elements."""
        rest = self.behind
        return (*rest[: self.first], *self.together, *rest[self.first :])

    @property
    def extents(self) -> Shape:
        """Of the axes that have an index."""
        return tuple(self.shape[axis] for axis in self.axes)

    @property
    def behind(self) -> Shape:
        """The extents of the other axes."""
        return tuple(self.shape[axis] for axis in self.others)


def _places(t: Translator, value: Arg, indices: Arg) -> _Places:
    """What the indices of an operation say, one for each axis, None where there is none."""
    assert isinstance(indices, tuple)
    given = {axis: index for axis, index in enumerate(indices) if index is not None}
    if any(t.dtype(index) == "bool" for index in given.values()):
        raise UnsayableError(
            "A mask chooses as many elements as are true: use `torch.where`, or multiply by it."
        )
    shape, axes = t.shape(value), tuple(given)
    ordered = sorted(axes, key=lambda axis: not isinstance(shape[axis], Varying))
    if sum(isinstance(shape[axis], Varying) for axis in axes) > 1:
        raise UnsayableError("Two of the axes that it chooses from depend on the batch size.")
    adjacent = axes == tuple(range(axes[0], axes[-1] + 1))
    together = _broadcast([t.shape(index) for index in given.values()])
    return _Places(
        shape, tuple(ordered), tuple(given[axis] for axis in ordered), together, axes[0] if adjacent else 0
    )


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    """The shape that several have together."""
    columns = itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    wide = [next((extent for extent in column if extent != 1), 1) for column in columns]
    return tuple(reversed(wide))


def _index_of(t: Translator, places: _Places, axis: int) -> Term:
    """The index of one of the axes, from the front."""
    arg = places.index[places.axes.index(axis)]
    term, extent = t.tensor(arg, "int32"), places.shape[axis]
    known = t.known.get(arg.id) if isinstance(arg, Ref) else None
    if _counts_up(t, arg) or (known is not None and bool((known >= 0).all())):
        return term
    behind = t.call("cast", t.call("less", term, t.call("scalar", 0, "int32")), "int32")
    return t.call("add", term, t.call("mul", behind, t.size(extent)))


def _counts_up(t: Translator, arg: Arg) -> bool:
    """Whether an index is 0, 1, 2 …, under whatever shape."""
    node = t.makers.get(arg.id) if isinstance(arg, Ref) else None
    while node is not None and node.op in _SAME_NUMBERS and isinstance(node.args[0], Ref):
        node = t.makers.get(node.args[0].id)
    if node is None or node.op != "aten.arange.start_step":
        return False
    start, _, step = padded(node)[:3]
    return start == 0 and step == 1


_SAME_NUMBERS = frozenset(
    ("aten.reshape.default", "aten.unsqueeze.default", "aten._to_copy.default", "aten.squeeze.dim")
)


def _line(t: Translator, places: _Places, axis: int) -> Term:
    """The index of one axis for each of the chosen places, in a row."""
    arg = places.index[places.axes.index(axis)]
    term = _index_of(t, places, axis)
    if t.shape(arg) != places.together:
        term = t.broadcast(term, places.together, "int32")
    return t.call("reshape", term, (-1,))


def _stacked(t: Translator, places: _Places) -> Term:
    """The numbers of each place side by side: (places, axes)."""
    lines = [t.call("reshape", _line(t, places, axis), (-1, 1)) for axis in places.axes]
    return t.join(lines, 1)


def _flat(t: Translator, places: _Places) -> Term:
    """One number for each place, among all along the axes that have an index."""
    total: Term | None = None
    for axis in places.axes:
        line = _line(t, places, axis)
        if total is not None:
            extent = places.shape[axis]
            assert not isinstance(extent, Varying)  # the one that varies is the first
            total = t.call("add", t.call("mul", total, t.call("scalar", extent, "int32")), line)
        else:
            total = line
    assert total is not None  # there is an index
    return total


def _by_axis(t: Translator, places: _Places) -> list[tuple[int, Extent]] | None:
    """Axes and how many places each has, when each index runs along axes of its own, in order; else None."""
    axes = sorted(places.axes)
    if axes != [*range(axes[0], axes[-1] + 1)]:
        return None
    shapes = [t.shape(places.index[places.axes.index(axis)]) for axis in axes]
    rank, found, seen = len(places.together), [], -1
    for axis, shape in zip(axes, shapes, strict=True):
        own = [rank - len(shape) + i for i, extent in enumerate(shape) if extent != 1]
        if own and own[0] <= seen:
            return None
        seen = own[-1] if own else seen
        found.append((axis, product(shape)))
    return found


def _index(t: Translator, node: Node) -> Term:
    value, indices = node.args
    places, dtype, made = _places(t, value, indices), t.dtype(value), t.result_shape(node)
    term = t.tensor(value, number_of(dtype))
    if len(places.axes) == 1:
        (axis,) = places.axes
        return back(t, take(t, term, places.shape, axis, _index_of(t, places, axis), made), dtype)
    separate = _by_axis(t, places)
    if separate is not None:
        shape = list(places.shape)
        for axis, count in separate:
            index = t.call("reshape", _index_of(t, places, axis), (-1,))
            before, shape[axis] = tuple(shape), count
            term = take(t, term, before, axis, index, shape)
        return back(t, t.reshape(term, made) if tuple(shape) != made else term, dtype)
    table = t.transpose(term, (*places.axes, *places.others))
    rows = t.call("gatherND", table, _stacked(t, places))  # (places, *others)
    return back(t, _inward(t, t.reshape(rows, (*places.together, *places.behind)), places), dtype)


def _inward(t: Translator, term: Term, places: _Places) -> Term:
    """Chosen elements, of which `together` comes first, as they are."""
    rank, first = len(places.together), places.first
    rest = range(rank, rank + len(places.others))
    return t.transpose(term, (*rest[:first], *range(rank), *rest[first:]))


def _outward(t: Translator, term: Term, places: _Places) -> Term:
    """Elements of the shape of the chosen ones, with `together` first."""
    rank, first = len(places.together), places.first
    others = [*range(first), *range(first + rank, rank + len(places.others))]
    return t.transpose(term, (*range(first, first + rank), *others))


def _index_put(t: Translator, node: Node) -> Term:
    value, indices, source, accumulate = padded(node)
    places, dtype = _places(t, value, indices), t.result_dtype(node)
    number = number_of(dtype)
    given = t.tensor(source, number)
    if accumulate:
        made = _added(t, places, given, t.shape(source), number)
        return back(t, t.call("add", t.tensor(value, number), made), dtype)
    order = (*places.axes, *places.others)
    size, width = product(places.extents), product(places.behind)
    rows = t.reshape(t.transpose(t.tensor(value, number), order), (size, width))
    hit, written = _written(t, places, given, t.shape(source), number)
    made = t.where(
        t.broadcast(t.call("cast", hit, "bool"), (size, width), "bool"), written, rows, (size, width)
    )
    return back(t, _home(t, t.reshape(made, (*places.extents, *places.behind)), places), dtype)


def _home(t: Translator, term: Term, places: _Places) -> Term:
    """A tensor whose axes with an index come first, with its axes in their order."""
    order = (*places.axes, *places.others)
    return t.transpose(term, [order.index(axis) for axis in range(len(order))])


def _values(t: Translator, places: _Places, given: Term, shape: Shape, dtype: str) -> Term:
    """What is put, for each place a row: (places, others)."""
    wide = given if shape == places.chosen else t.broadcast(given, places.chosen, dtype)
    return t.reshape(_outward(t, wide, places), (product(places.together), product(places.behind)))


def _written(t: Translator, places: _Places, given: Term, shape: Shape, dtype: str) -> tuple[Term, Term]:
    """Which rows are written, others zero, and what is: the last of several."""
    count, size = product(places.together), product(places.extents)
    hot = hot_rows(t, _flat(t, places), (count,), size)  # (places, extents)
    wide = (size, product(places.behind))
    if product(shape) == 1:
        return t.reshape(t.call("max", hot, (0,)), (size, 1)), t.broadcast(
            t.call("reshape", given, ()), wide, dtype
        )
    one = t.call("scalar", 1, "int32")
    turns = t.reshape(t.call("add", t.counted(count), one), (count, 1))
    last = t.call("max", t.call("mul", hot, turns), (0,))
    which = t.call("maximum", t.call("sub", last, one), t.call("scalar", 0, "int32"))
    rows = t.call("gather", _values(t, places, given, shape, dtype), which, 0)
    return t.reshape(last, (size, 1)), rows


def _added(t: Translator, places: _Places, given: Term, shape: Shape, dtype: str) -> Term:
    """Zeros of the tensor's shape, to which what is put is added, as often as it comes."""
    if not any(isinstance(extent, Varying) for extent in places.shape):
        rows = _values(t, places, given, shape, dtype)
        size, width = product(places.extents), product(places.behind)
        assert not isinstance(size, Varying)
        assert not isinstance(width, Varying)
        summed = t.call("scatterND", t.call("reshape", _flat(t, places), (-1, 1)), rows, (size, width))
        return _home(t, t.reshape(summed, (*places.extents, *places.behind)), places)
    separate = _by_axis(t, places) if len(places.axes) > 1 else None
    if separate is not None:
        return _added_by_axis(t, places, separate, given, shape, dtype)
    if _counts_up(t, places.index[0]) and _runs_first(t, places):
        return _added_by_row(t, places, given, shape, dtype)
    count = product(places.together)
    hot = hot_rows(t, _flat(t, places), (count,), product(places.extents), "float32")
    summed = _product(t, hot, _values(t, places, given, shape, dtype), (count,), dtype)
    return _home(t, t.reshape(summed, (*places.extents, *places.behind)), places)


def _product(t: Translator, hot: Term, rows: Term, counts: Shape, dtype: str) -> Term:
    """One-hot rows (*counts, extent), turned, times the rows that they choose the places of, in float32."""
    given = rows if dtype == "float32" else t.call("cast", rows, "float32")
    made = products.product(t, hot, given, over=counts[-1], rank=len(counts) + 1, turn_left=True)
    return made if dtype == "float32" else t.call("cast", made, dtype)


def _added_by_axis(
    t: Translator,
    places: _Places,
    separate: Sequence[tuple[int, Extent]],
    given: Term,
    shape: Shape,
    dtype: str,
) -> Term:
    """One axis after the other, when each has an index of its own."""
    wide = given if shape == places.chosen else t.broadcast(given, places.chosen, dtype)
    extents = list(places.shape)
    for axis, count in separate:
        extents[axis] = count
    term = t.reshape(wide, extents) if tuple(extents) != places.chosen else wide
    for axis, count in separate:
        index = t.call("reshape", _index_of(t, places, axis), (-1,))
        hot = hot_rows(t, index, (count,), places.shape[axis], "float32")
        others = [i for i in range(len(extents)) if i != axis]
        rest = [extents[i] for i in others]
        rows = t.reshape(t.transpose(term, (axis, *others)), (count, product(rest)))
        extents[axis] = places.shape[axis]
        summed = t.reshape(_product(t, hot, rows, (count,), dtype), (extents[axis], *rest))
        term = t.transpose(summed, [(axis, *others).index(i) for i in range(len(extents))])
    return term


def _runs_first(t: Translator, places: _Places) -> bool:
    """Whether the first index runs along the first axis of `together`, row by row of the batch."""
    shape = t.shape(places.index[0])
    whole = len(shape) == len(places.together) and all(extent == 1 for extent in shape[1:])
    return whole and shape[0] == places.together[0] == places.extents[0]


def _added_by_row(t: Translator, places: _Places, given: Term, shape: Shape, dtype: str) -> Term:
    """Each row of the batch has its own places, among the axes that do not follow the batch."""
    batch, *extents = places.extents
    count, size, width = product(places.together[1:]), product(extents), product(places.behind)
    rows = t.reshape(_values(t, places, given, shape, dtype), (batch, count, width))
    if extents:
        inner = dataclasses.replace(places, axes=places.axes[1:], index=places.index[1:])
        if count == 1:
            hot = hot_rows(t, _flat(t, inner), (batch,), size, dtype)
            summed = t.call("mul", t.reshape(hot, (batch, size, 1)), rows)
        else:
            hot = hot_rows(t, _flat(t, inner), (batch, count), size, "float32")
            summed = _product(t, hot, rows, (batch, count), dtype)
    else:
        summed = t.call("sum", rows, (1,))
    return _home(t, t.reshape(summed, (*places.extents, *places.behind)), places)


RULES: Mapping[str, Rule] = {
    "aten.index.Tensor": _index,
    "aten.index_put.default": _index_put,
}
"""By the name of the operation."""
