"""Averaging rules: how the diffs of a cycle become one.

A rule is a frozen record of functions over an explicit state, as fedjax writes its algorithms: the state
can be stored, moved to another machine and continued there. Where the rule allows it, states form a
commutative monoid (`start` is its zero, `merge` its sum), as in pfl-research: then neither the order of the
diffs nor their spread over machines changes the result.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Self

import numpy as np

from fedplan.errors import AggregationError, WireError
from fedplan.federation.layout import Layout, misfit
from fedplan.federation.numbers import Float64s, from_float64, to_float64
from fedplan.wire import State, WireTensor

Tensors = Sequence[WireTensor]
"""The tensors of a diff or of a model, in the model's order."""


@dataclasses.dataclass(frozen=True, slots=True)
class Accumulated:
    """The state of a rule: what is known of the diffs that came so far.

    Attributes:
        count: diffs that are in it.
        tensors: what the rule keeps of them; see the rule.
    """

    count: int
    tensors: tuple[WireTensor, ...]

    def serialize(self) -> bytes:
        """The state as bytes: a wire State whose first tensor is the count."""
        count = WireTensor(np.array(self.count, np.int64), "int64")
        return State.of((count, *self.tensors)).serialize()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            WireError: it is something else.
        """
        tensors = State.parse(data).tensors
        if not tensors or tensors[0].dtype != "int64" or tensors[0].shape != ():
            raise WireError("the bytes are not the state of an averaging rule")
        kept = (dataclasses.replace(tensor, array=tensor.array.copy()) for tensor in tensors[1:])
        return cls(int(tensors[0].array), tuple(kept))  # copies: a rule may add into them


@dataclasses.dataclass(frozen=True, slots=True)
class AveragingRule:
    """How diffs are averaged: a record of functions.

    A state that is given to `add` or `merge` is used up (its memory may be used again): keep only what
    comes back. Diffs are taken to fit the layout; see `misfit`.

    Attributes:
        name: for logs and status.
        start: (layout) → the state before any diff.
        add: (state, diff) → the state with one more diff.
        merge: (state, state) → the state with the diffs of both.
        finish: (state, layout) → the averaged diff, checked.
    """

    name: str
    start: Callable[[Layout], Accumulated]
    add: Callable[[Accumulated, Tensors], Accumulated]
    merge: Callable[[Accumulated, Accumulated], Accumulated]
    finish: Callable[[Accumulated, Layout], Tensors]


def mean() -> AveragingRule:
    """The arithmetic mean, streaming: one float64 sum per tensor, whatever the number of diffs.

    Averages of integer tensors are rounded to the nearest whole number.
    """
    return AveragingRule("mean", _zeros, _add_to_sums, _merge_sums, _divide)


def check_average(tensors: Tensors, layout: Layout) -> Tensors:
    """The averaged diff, when it is one that may change the model.

    Raises:
        AggregationError: count, shapes or dtypes are not the model's, or a value is not finite.
    """
    reason = misfit(tensors, layout)
    if reason is not None:
        raise AggregationError(f"the average does not fit the model: {reason}")
    return tensors


def _zeros(layout: Layout) -> Accumulated:
    return Accumulated(0, tuple(WireTensor(np.zeros(shape, np.float64), "float64") for shape, _ in layout))


def _add_to_sums(state: Accumulated, diff: Tensors) -> Accumulated:
    for total, tensor in zip(state.tensors, diff, strict=True):
        np.add(total.array, _addend(tensor), out=total.array)
    return Accumulated(state.count + 1, state.tensors)


def _addend(tensor: WireTensor) -> np.ndarray:
    """What NumPy can add to float64 without a copy of its own; bfloat16 it does not know."""
    return to_float64(tensor) if tensor.dtype == "bfloat16" else tensor.array


def _merge_sums(one: Accumulated, other: Accumulated) -> Accumulated:
    for total, more in zip(one.tensors, other.tensors, strict=True):
        np.add(total.array, more.array, out=total.array)
    return Accumulated(one.count + other.count, one.tensors)


def _divide(state: Accumulated, layout: Layout) -> Tensors:
    if state.count == 0:
        raise AggregationError("there is no diff to average")
    averages = [
        _quotient(total.array, state.count, dtype)
        for total, (_, dtype) in zip(state.tensors, layout, strict=True)
    ]
    return check_average(averages, layout)


def _quotient(total: Float64s, count: int, dtype: str) -> WireTensor:
    """A sum divided; the sum's memory is used up, so that a large model needs no more of it."""
    np.divide(total, count, out=total)
    return from_float64(total, dtype)
