"""Averaging where only a part of the model changes."""

import numpy as np
import pytest
import torch

from fedplan.errors import AggregationError
from fedplan.federation import averaging_plan, changed_outside, for_part, mean, others, part_of
from fedplan.plan import Plan, trace
from fedplan.wire import WireTensor

from .tensors import LAYOUT, average, random_diffs, wire

PLACES = (1, 2)
PART = part_of(LAYOUT, PLACES)


def traced(step, diffs):
    """An averaging Plan of `step` over so many whole diffs."""
    zeros = [torch.zeros(shape) for shape, _ in LAYOUT * diffs]
    return averaging_plan(Plan.parse(trace(step, *zeros).serialize()), iterative=False)


def test_a_part_is_picked_and_what_is_left_is_known():
    assert part_of("abcd", (1, 3)) == ("b", "d")
    assert part_of("abcd", None) == ("a", "b", "c", "d")
    assert others(4, (1, 3)) == (0, 2)


@pytest.mark.parametrize("value", [1e-30, -3])
def test_a_change_outside_of_a_part_is_found(value):
    diff = [wire(np.zeros(2)), wire([0, 5]), wire([0, value])]
    assert changed_outside(diff, (1,)) == 2
    assert changed_outside(diff, (1, 2)) is None


def test_no_difference_is_none_whatever_its_sign_and_dtype():
    minus_zero = WireTensor(np.array([0x8000, 0], "<u2"), "bfloat16")  # by its bits
    diff = [wire(-np.zeros(2)), minus_zero, wire([0], "int64"), wire([1])]
    assert changed_outside(diff, (3,)) is None


def test_a_rule_for_whole_diffs_gets_zeros_for_the_others():
    seen = []
    rule = mean()

    def add(state, diff):
        seen.append(diff[0].array)
        return rule.add(state, diff)

    whole = type(rule)(rule.name, rule.start, add, rule.merge, rule.finish)
    diffs = random_diffs(3, PART)
    for ours, plain in zip(
        average(for_part(whole, LAYOUT, PLACES), diffs, PART), average(mean(), diffs, PART), strict=True
    ):
        np.testing.assert_array_equal(ours.array, plain.array)
        assert ours.dtype == plain.dtype
    assert [zeros.shape for zeros in seen] == [(3, 4)] * 3
    assert not np.any(seen)


def test_an_averaging_plan_gets_whole_diffs_in_their_order():
    rule = for_part(traced(lambda *t: (t[0] + t[3], t[1] - t[4], t[2] * t[5]), 2), LAYOUT, PLACES)
    one, two = random_diffs(2, PART)
    middle, last = average(rule, [one, two], PART)
    np.testing.assert_array_equal(middle.array, one[0].array - two[0].array)
    np.testing.assert_array_equal(last.array, one[1].array * two[1].array)


def test_an_average_that_changes_what_is_frozen_is_refused():
    rule = for_part(traced(lambda a, b, c: (a + 1, b, c), 1), LAYOUT, PLACES)
    with pytest.raises(AggregationError, match="changes tensor 0 of the model, which is frozen"):
        average(rule, random_diffs(1, PART), PART)
