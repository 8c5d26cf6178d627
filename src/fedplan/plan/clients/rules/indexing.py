"""Elements that are chosen by numbers. Each client's numbers are held against its own part alone."""

from collections.abc import Sequence
from typing import Any

import torch

from fedplan.plan.clients.lifting import STAND_IN, Lifting, Made, Value
from fedplan.plan.clients.rules.dimensions import flat, shifted
from fedplan.plan.ops import dtype_name

Indices = Sequence[Value | None]


def embedding(lift: Lifting, weight: Value, indices: Value, *rest: Any) -> Made:
    """Rows of one table for all, or of each client's."""
    if not weight.apart:
        return lift.again(weight, indices, *rest)
    return lift.emit("clients.embedding.default", weight, lift.whole(indices))


def embedding_backward(
    lift: Lifting, gradient: Value, indices: Value, rows: int, padding: int, _: bool
) -> Made:
    """Each client's gradient goes to its own table."""
    given = (lift.whole(gradient), lift.whole(indices))
    return lift.emit("clients.embedding_dense_backward.default", *given, rows, padding)


def index_select(lift: Lifting, value: Value, dim: int, index: Value) -> Made:
    """Slices of one tensor, which are the same for all clients or not."""
    value = lift.shaped(value, value.shape or (1,))
    axis = shifted(dim, value.rank)
    if not index.apart:
        return lift.fitting(lift.again(value, axis, index))
    shape = list(value.shape)
    shape[axis - 1] = index.shape[0] if index.rank else 1
    places = [extent if place == axis - 1 else 1 for place, extent in enumerate(shape)]
    spread = lift.aten("expand.default", lift.shaped(index, places), (-1, *shape))
    return lift.fitting([lift.aten("gather.default", lift.whole(value), axis, spread)])


class _Region:
    """Where an index with one list of numbers for each of some dimensions lies in the whole.

    Attributes:
        indices: those of the whole.
        order: which dimension of what they choose there is which, with clients first and then each client's.
    """

    def __init__(self, lift: Lifting, value: Value, indices: Indices) -> None:
        chosen = [index for index in indices if index is not None]
        self.rank = max(index.rank for index in chosen)
        aligned = [index and lift.aligned(index, self.rank) for index in indices]
        own = any(index.apart for index in chosen)
        self.indices: list[Value | None] = [None, *aligned] if value.apart else aligned
        if own and value.apart:
            numbers = lift.aten("arange.start_step", 0, lift.count, 1, "int64", apart=False)
            lead = lift.aten("reshape.default", numbers, (-1, *(1,) * self.rank), apart=True)
            self.indices[0] = lead
        listed = [f"index {place}" for place in range(self.rank)]
        dims = [f"dim {place}" for place in range(value.rank)]
        alone = _layout(dims, indices, listed)
        whole = _layout(
            ["clients", *dims] if value.apart else dims, self.indices, ["clients", *listed] if own else listed
        )
        self.order = [whole.index(name) for name in ("clients", *alone)]


def _layout(dims: list[str], indices: Indices, chosen: list[str]) -> list[str]:
    """The dimensions of what an index chooses: the chosen stand where they were, or in front."""
    places = [place for place, index in enumerate(indices) if index is not None]
    left = [dim for place, dim in enumerate(dims) if place not in places]
    adjacent = places == list(range(places[0], places[0] + len(places)))
    before = places[0] if adjacent else 0
    return [*left[:before], *chosen, *left[before:]]


def index(lift: Lifting, value: Value, indices: Indices) -> Made:
    """`x[i, :, j]`."""
    region = _Region(lift, value, indices)
    made = lift.aten("index.Tensor", value, region.indices, apart=False)
    return _turned(lift, made, region.order)


def taken(lift: Lifting, value: Value, numbers: Value) -> Made:
    """`take`: by numbers in each client's part as a list."""
    return index(lift, flat(lift, value), (numbers,))


def _turned(lift: Lifting, value: Value, order: Sequence[int]) -> Value:
    return lift.aten("permute.default", value, tuple(order))


def index_put(lift: Lifting, value: Value, indices: Indices, put: Value, accumulate: bool) -> Made:
    """`x[i, :, j] = put`, or `+=`."""
    value = lift.whole(value)
    region = _Region(lift, value, indices)
    rank = len(region.order) - 1
    part = lift.aligned(lift.whole(put), rank)
    back = [region.order.index(place) for place in range(rank + 1)]
    turned = lift.aten("permute.default", part, tuple(back), apart=False)
    return lift.aten("index_put.default", value, region.indices, turned, accumulate)


def likelihood(
    lift: Lifting, scores: Value, target: Value, weight: Value | None, reduction: int, ignored: int
) -> Made:
    """`nll_loss_forward`: the loss, and the weight of all its rows."""
    if weight is not None and weight.apart:
        return lift.by_vmap(scores, target, weight, reduction, ignored)
    given = (lift.whole(scores), lift.whole(target), weight)
    return lift.emit_all("clients.nll_loss_forward.default", *given, reduction, ignored)


def likelihood_backward(
    lift: Lifting,
    gradient: Value,
    scores: Value,
    target: Value,
    weight: Value | None,
    reduction: int,
    ignored: int,
    total: Value,
) -> Made:
    """Its gradient: of each row as if it stood alone, of a mean divided by the weight of all rows."""
    if weight is not None and weight.apart:
        return lift.by_vmap(gradient, scores, target, weight, reduction, ignored, total)
    rows = scores.shape[0] if scores.rank > 1 else 1
    if reduction == 1:
        apart = gradient.apart or total.apart
        gradient = lift.aten("div.Tensor", gradient, total, apart=apart)
    each = lift.shaped(gradient, (rows,) if reduction == 0 else (1,))
    each = lift.aten("expand.default", lift.whole(each), (-1, rows))
    flat_scores = lift.by_rows(lift.shaped(scores, (rows, scores.shape[-1])))
    flat_target = lift.by_rows(lift.shaped(target, (rows,)))
    none = lift.aten("full.default", (), 0, dtype_name(scores.meta.dtype), apart=False)
    made = lift.emit_all(
        lift.op, lift.by_rows(each), flat_scores, flat_target, weight, 0, ignored, none, apart=False
    )[0]
    assert made is not None
    return lift.shaped(lift.from_rows(made, rows), scores.shape)


def searched(lift: Lifting, sequence: Value, values: Value, *rest: Any) -> Made:
    """`searchsorted`: one list for all, or a list for each client and each row of its values."""
    if not sequence.apart and sequence.rank == 1:
        return lift.again(sequence, values, *rest)
    if sequence.rank == 1:
        values = flat(lift, values)
    options = (lift.solid(arg) if isinstance(arg, Value) else arg for arg in rest)
    op = "aten.searchsorted.Tensor"
    return lift.fitting(lift.emit_all(op, lift.solid(sequence), lift.solid(values), *options))


def searched_number(lift: Lifting, sequence: Value, number: float, *rest: Any) -> Made:
    """`searchsorted` of one number in each client's list."""
    dtype = dtype_name(torch.result_type(sequence.meta, number))
    value = lift.aten("full.default", (1,), number, dtype, apart=False)
    return searched(lift, lift.aten("_to_copy.default", sequence, dtype), value, *rest)


def bucketed(lift: Lifting, values: Value, boundaries: Value, *rest: Any) -> Made:
    """`bucketize`."""
    return (
        searched(lift, boundaries, values, *rest)
        if boundaries.apart
        else lift.again(values, boundaries, *rest)
    )


def bucketed_number(lift: Lifting, number: float, boundaries: Value, *rest: Any) -> Made:
    """`bucketize` of one number."""
    return searched_number(lift, boundaries, number, *rest)


def histogram(lift: Lifting, value: Value, *rest: Any) -> Made:
    """`histc`."""
    return lift.emit("clients.histc.default", value, *rest)


def alignments(lift: Lifting, *args: Any) -> Made:
    """The loss over all alignments: clients become rows of one batch."""
    given = (lift.whole(arg) if isinstance(arg, Value) else arg for arg in args)
    foreseen = [meta.new_empty((STAND_IN, *meta.shape)) for meta in lift.expected]
    return lift.emit_all("clients.ctc_loss.default", *given, made=foreseen)


def alignments_backward(lift: Lifting, *args: Any) -> Made:
    """Its gradient."""
    given = (lift.whole(arg) if isinstance(arg, Value) else arg for arg in args)
    return lift.emit("clients.ctc_loss_backward.default", *given)
