"""Averaging by a Plan that the model's owner hosted."""

from collections.abc import Sequence

import numpy as np

from fedplan.errors import AggregationError, PlanError
from fedplan.federation.layout import Layout, TensorLayout
from fedplan.federation.numbers import from_float64
from fedplan.federation.rule import Accumulated, AveragingRule, Tensors, check_average
from fedplan.plan import Plan, from_torch, to_torch
from fedplan.wire import WireTensor

_NUMBER: TensorLayout = ((1,), "int64")
"""How many diffs are in the average already, for an iterative Plan that does not say how it takes it."""


def averaging_plan(plan: Plan, *, iterative: bool) -> AveragingRule:
    """Averages by a Plan, in PySyft's two conventions.

    Iterative: the first diff is the average so far; for each further one the Plan is called with
    ``(*average, *diff, number)``, where number says how many diffs the average holds already, as the tensor
    of one element for which the Plan was traced (else int64). It returns the new average. Memory does not
    grow with the number of diffs. Two averages cannot be merged: only the Plan knows how diffs add.

    Not iterative: the Plan is called once, with the tensors of all diffs, one diff after the other. All of
    them are in memory then. A Plan that was traced for K diffs works with exactly K; see `diffs_of_plan`.

    Args:
        plan: inputs as above; outputs are the averaged diff.
        iterative: which of the two.
    """
    if iterative:

        def add(state: Accumulated, diff: Tensors) -> Accumulated:
            if state.count == 0:
                return Accumulated(1, tuple(diff))
            tensors = (*state.tensors, *diff, _number(plan, state.count))
            return Accumulated(state.count + 1, _call(plan, tensors))

        return AveragingRule("iterative plan", _nothing, add, _merge_one_by_one, _last)

    def finish(state: Accumulated, layout: Layout) -> Tensors:
        _need_diffs(state)
        return check_average(_call(plan, state.tensors), layout)

    return AveragingRule("plan", _nothing, _append, _join, finish)


def diffs_of_plan(plan: Plan, layout: Layout) -> int:
    """How many diffs of a model a Plan that is not iterative was traced for.

    Raises:
        AggregationError: its inputs are no whole number of diffs.
    """
    count, rest = divmod(len(plan.inputs), len(layout))
    if rest or not count:
        raise AggregationError(
            f"the averaging Plan has {len(plan.inputs)} inputs, which is no whole number of diffs of "
            f"{len(layout)} tensors; trace it with the tensors of all diffs, one diff after the other, "
            'or set "iterative_plan": true if it takes (average, diff, number)'
        )
    return count


def plan_shapes(plan: Plan, layout: Layout, *, iterative: bool, diffs: int) -> Sequence[TensorLayout]:
    """The inputs with which an averaging Plan is called.

    Args:
        plan: the Plan.
        layout: the model's.
        iterative: see `averaging_plan`.
        diffs: how many, for a Plan that is not iterative.
    """
    return (*layout, *layout, _number_layout(plan)) if iterative else layout * diffs


def _number_layout(plan: Plan) -> TensorLayout:
    """The last input of an iterative Plan, when it is declared as one element of any dtype."""
    last = plan.inputs[-1] if plan.inputs else None
    if last is None or last.shape is None or last.dtype in (None, "bool") or set(last.shape) - {1, None}:
        return _NUMBER
    return (1,) * len(last.shape), last.dtype


def _number(plan: Plan, count: int) -> WireTensor:
    shape, dtype = _number_layout(plan)
    return from_float64(np.full(shape, float(count)), dtype)


def _call(plan: Plan, tensors: Tensors) -> tuple[WireTensor, ...]:
    try:
        outputs = plan(*(to_torch(tensor) for tensor in tensors))
    except PlanError as error:
        raise AggregationError(f"the averaging Plan failed: {error}") from error
    return tuple(from_torch(output) for output in outputs)


def _nothing(_layout: Layout) -> Accumulated:
    return Accumulated(0, ())


def _append(state: Accumulated, diff: Tensors) -> Accumulated:
    return Accumulated(state.count + 1, (*state.tensors, *diff))


def _join(one: Accumulated, other: Accumulated) -> Accumulated:
    return Accumulated(one.count + other.count, one.tensors + other.tensors)


def _merge_one_by_one(one: Accumulated, other: Accumulated) -> Accumulated:
    if one.count and other.count:
        raise AggregationError(
            "averages made by an iterative Plan cannot be merged; add the diffs one by one to one of them"
        )
    return one if one.count else other


def _last(state: Accumulated, layout: Layout) -> Tensors:
    _need_diffs(state)
    return check_average(state.tensors, layout)


def _need_diffs(state: Accumulated) -> None:
    if state.count == 0:
        raise AggregationError("there is no diff to average")
