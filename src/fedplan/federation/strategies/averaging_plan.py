"""Averaging by a Plan that the model's owner hosted: one more strategy."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from fedplan.errors import AggregationError, PlanError
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import (
    Layout,
    TensorLayout,
    Tensors,
    changed_outside,
    check_average,
    from_float64,
    part_of,
    zeros,
)
from fedplan.plan import Plan, from_torch, to_torch
from fedplan.wire import WireTensor
from fedplan.wire.state import Places

_NUMBER: TensorLayout = ((1,), "int64")
"""How many diffs are in the average already, for an iterative Plan that does not say how it takes it."""


def averaging_plan_strategy(load: Callable[[], Plan], setting: Setting) -> Strategy:
    """new model = model − what the Plan makes of the diffs. The Plan is loaded each time it is needed.

    The Plan works on all tensors of the model: it gets zeros for those that workers' Plans leave frozen, and
    must return zeros for them.
    """
    iterative = setting.server.iterative_plan

    def fold(diffs: Iterable[Tensors]) -> Tensors:
        return fold_by_plan(load(), diffs, setting.layout, setting.changing, iterative=iterative)

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        return average.tensors, state

    return Strategy("averaging_plan", setting, step, fold=fold)


def fold_by_plan(
    plan: Plan, diffs: Iterable[Tensors], layout: Layout, changing: Places, *, iterative: bool
) -> Tensors:
    """The averaged diff of the tensors that change, of diffs of these; see `average_by_plan`.

    Args:
        plan: works on all tensors of the model.
        diffs: each holds the tensors that change.
        layout: of all tensors of the model.
        changing: which of them change.
        iterative: see `average_by_plan`.

    Raises:
        AggregationError: see `average_by_plan`; or the Plan changes what is frozen.
    """
    whole = _Whole(layout, changing)
    return whole.reduced(average_by_plan(plan, map(whole.filled, diffs), layout, iterative=iterative))


def average_by_plan(plan: Plan, diffs: Iterator[Tensors], layout: Layout, *, iterative: bool) -> Tensors:
    """Averages by a Plan, in PySyft's two conventions.

    Iterative: the first diff is the average so far; for each further one the Plan is called with
    ``(*average, *diff, number)``, where number says how many diffs the average holds already, as the tensor
    of one element for which the Plan was traced (else int64). It returns the new average. Memory does not
    grow with the number of diffs.

    Not iterative: the Plan is called once, with the tensors of all diffs, one diff after the other. All of
    them are in memory then. A Plan that was traced for K diffs works with exactly K; see `diffs_of_plan`.

    Args:
        plan: inputs as above; outputs are the averaged diff.
        diffs: each fits the layout.
        layout: of the model.
        iterative: which of the two.

    Raises:
        AggregationError: there is no diff, the Plan failed, or what it returns does not fit the model.
    """
    first = next(diffs, None)
    if first is None:
        raise AggregationError("there is no diff to average")
    if not iterative:
        return check_average(_call(plan, [*first, *(tensor for diff in diffs for tensor in diff)]), layout)
    average = first
    for number, diff in enumerate(diffs, 1):
        average = _call(plan, [*average, *diff, _number(plan, number)])
    return check_average(average, layout)


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
        iterative: see `average_by_plan`.
        diffs: how many, for a Plan that is not iterative.
    """
    return (*layout, *layout, _number_layout(plan)) if iterative else layout * diffs


@dataclass(frozen=True, slots=True)
class _Whole:
    """Turns diffs of the tensors that change into diffs of all, and back."""

    layout: Layout
    changing: Places

    def filled(self, diff: Tensors) -> Tensors:
        if self.changing is None:
            return diff
        held = dict(zip(self.changing, diff, strict=True))
        return [
            held[place] if place in held else zeros(*self.layout[place]) for place in range(len(self.layout))
        ]

    def reduced(self, average: Tensors) -> Tensors:
        if self.changing is None:
            return average
        changed = changed_outside(average, self.changing)
        if changed is not None:
            raise AggregationError(
                f"the average changes tensor {changed} of the model, which is frozen in the workers' Plans"
            )
        return part_of(average, self.changing)


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
