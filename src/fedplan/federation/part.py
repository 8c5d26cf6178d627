"""Diffs that hold a part of the model: the tensors that a training changes. The others differ by zero."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.layout import Layout
from fedplan.federation.reach import reach_of
from fedplan.federation.rule import Accumulated, AveragingRule, Tensors
from fedplan.wire import DTYPES, WireTensor
from fedplan.wire.state import Places

_T = TypeVar("_T")


def part_of(whole: Sequence[_T], places: Places) -> tuple[_T, ...]:
    """What stands at some places of a model's tensors, or of anything else that has one entry for each."""
    return tuple(whole) if places is None else tuple(whole[place] for place in places)


def others(tensors: int, places: Sequence[int]) -> tuple[int, ...]:
    """The places of a model with so many tensors that are not among these."""
    return tuple(sorted(set(range(tensors)).difference(places)))


def changed_outside(diff: Tensors, places: Sequence[int]) -> int | None:
    """The first tensor of a whole diff, other than those at the places, that is not zero throughout.

    Args:
        diff: its values are finite.
        places: of the tensors that may change.
    """
    frozen = others(len(diff), places)
    reaches = reach_of(part_of(diff, frozen))
    return next((place for place, reach in zip(frozen, reaches, strict=True) if reach), None)


def for_part(rule: AveragingRule, layout: Layout, places: Sequence[int]) -> AveragingRule:
    """A rule for whole diffs, as one for diffs that hold a part of the model.

    The rule gets zeros for the other tensors, and must return zeros for them.

    Args:
        rule: works on all tensors of the model.
        layout: of all of them.
        places: of those that the diffs hold.
    """
    missing = {place: _zeros(*layout[place]) for place in others(len(layout), places)}

    def start(_part: Layout) -> Accumulated:
        return rule.start(layout)

    def add(state: Accumulated, diff: Tensors) -> Accumulated:
        whole = missing | dict(zip(places, diff, strict=True))
        return rule.add(state, [whole[place] for place in range(len(layout))])

    def finish(state: Accumulated, _part: Layout) -> Tensors:
        average = rule.finish(state, layout)
        changed = changed_outside(average, places)
        if changed is not None:
            raise AggregationError(
                f"the average changes tensor {changed} of the model, which is frozen in the workers' Plans"
            )
        return part_of(average, tuple(places))

    return AveragingRule(rule.name, start, add, rule.merge, finish)


def _zeros(shape: tuple[int, ...], dtype: str) -> WireTensor:
    return WireTensor(np.zeros(shape, DTYPES[dtype].storage), dtype)
