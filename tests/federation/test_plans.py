import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from fedplan.errors import AggregationError, PlanError
from fedplan.federation import averaging_plan, diffs_of_plan, layout_of, plan_shapes
from fedplan.plan import Plan, trace
from fedplan.wire import State

from .tensors import average, random_diffs

FIXTURES = Path(__file__).parents[3] / "shared" / "fixtures"
LAYOUT = (((3, 4), "float32"), ((4,), "float32"))
ONE = torch.tensor([1])
pysyft = pytest.mark.skipif(not FIXTURES.exists(), reason="Plans made by PySyft are not here")


def traced_iterative(layout=LAYOUT, number=ONE):
    zeros = [torch.zeros(shape) for shape, _ in layout * 2]

    def step(*args):
        size = len(layout)
        avg, item, num = args[:size], args[size : 2 * size], args[-1]
        return tuple((a * num + i) / (num + 1) for a, i in zip(avg, item, strict=True))

    return Plan.parse(trace(step, *zeros, number).serialize())


def traced_for(diffs):
    zeros = [torch.zeros(shape) for shape, _ in LAYOUT * diffs]

    def step(*args):
        return tuple(sum(args[n :: len(LAYOUT)]) / diffs for n in range(len(LAYOUT)))

    return Plan.parse(trace(step, *zeros).serialize())


def expect_mean(tensors, diffs):
    for index, tensor in enumerate(tensors):
        expected = np.mean([diff[index].array for diff in diffs], axis=0, dtype=np.float64)
        np.testing.assert_allclose(tensor.array, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("count", [1, 2, 3, 50])
def test_an_iterative_plan_gets_average_diff_and_number(count):
    diffs = random_diffs(count, LAYOUT)
    expect_mean(average(averaging_plan(traced_iterative(), iterative=True), diffs, LAYOUT), diffs)


@pytest.mark.parametrize("number", [1, 1.0, torch.tensor(1), torch.tensor([1.0])])
def test_the_number_comes_as_the_plan_was_traced_with_it(number):
    diffs = random_diffs(4, LAYOUT)
    plan = traced_iterative(number=number)
    expect_mean(average(averaging_plan(plan, iterative=True), diffs, LAYOUT), diffs)
    assert tuple(plan.check(plan_shapes(plan, LAYOUT, iterative=True, diffs=1)).outputs) == LAYOUT


def test_a_plan_gets_all_diffs_one_after_the_other():
    diffs = random_diffs(3, LAYOUT)
    expect_mean(average(averaging_plan(traced_for(3), iterative=False), diffs, LAYOUT), diffs)


def test_a_plan_tells_for_how_many_diffs_it_was_traced():
    assert diffs_of_plan(traced_for(4), LAYOUT) == 4


def test_a_plan_that_takes_no_whole_number_of_diffs_is_refused():
    with pytest.raises(AggregationError, match="5 inputs, which is no whole number of diffs of 2 tensors"):
        diffs_of_plan(traced_iterative(), LAYOUT)


@pytest.mark.parametrize("count", [2, 4])
def test_a_plan_traced_for_three_diffs_works_with_no_other_number(count):
    with pytest.raises(AggregationError, match="the averaging Plan failed"):
        average(averaging_plan(traced_for(3), iterative=False), random_diffs(count, LAYOUT), LAYOUT)


def test_what_a_plan_is_called_with_is_known_beforehand():
    plan = traced_for(3)
    cost = plan.check(plan_shapes(plan, LAYOUT, iterative=False, diffs=3))
    assert tuple(cost.outputs) == LAYOUT
    with pytest.raises(PlanError):
        plan.check(plan_shapes(plan, LAYOUT, iterative=False, diffs=2))


@pytest.mark.parametrize("iterative", [True, False])
def test_there_is_no_average_of_nothing(iterative):
    with pytest.raises(AggregationError, match="no diff to average"):
        average(averaging_plan(traced_for(3), iterative=iterative), [], LAYOUT)


def test_a_plan_that_returns_nan_is_refused():
    plan = trace(lambda a, b: (a - a) / (b - b), torch.ones(4), torch.ones(4))
    layout = (((4,), "float32"),)
    with pytest.raises(AggregationError, match="tensor 0 holds NaN"):
        average(averaging_plan(plan, iterative=False), random_diffs(2, layout), layout)


def test_a_plan_that_returns_another_shape_is_refused():
    plan = trace(lambda a, b: (a + b).sum(), torch.ones(4), torch.ones(4))
    layout = (((4,), "float32"),)
    with pytest.raises(AggregationError, match=r"tensor 0 has the shape \[\]"):
        average(averaging_plan(plan, iterative=False), random_diffs(2, layout), layout)


def test_states_of_a_whole_list_can_be_merged():
    rule = averaging_plan(traced_for(3), iterative=False)
    diffs = random_diffs(3, LAYOUT)
    one = rule.add(rule.start(LAYOUT), diffs[0])
    two = rule.add(rule.add(rule.start(LAYOUT), diffs[1]), diffs[2])
    expect_mean(rule.finish(rule.merge(one, two), LAYOUT), diffs)


def test_averages_of_an_iterative_plan_cannot_be_merged_but_with_nothing():
    rule = averaging_plan(traced_iterative(), iterative=True)
    one, two = (rule.add(rule.start(LAYOUT), diff) for diff in random_diffs(2, LAYOUT))
    assert rule.merge(one, rule.start(LAYOUT)) is one
    assert rule.merge(rule.start(LAYOUT), two) is two
    with pytest.raises(AggregationError, match="cannot be merged"):
        rule.merge(one, two)


def test_the_diffs_are_left_as_they_were():
    diffs = random_diffs(3, LAYOUT)
    before = [[tensor.array.copy() for tensor in diff] for diff in diffs]
    average(averaging_plan(traced_iterative(), iterative=True), diffs, LAYOUT)
    for diff, copies in zip(diffs, before, strict=True):
        assert all(np.array_equal(tensor.array, copy) for tensor, copy in zip(diff, copies, strict=True))


def peak_memory(count):
    layout = (((250_000,), "float32"),)  # 1 MB
    rule = averaging_plan(traced_iterative(layout), iterative=True)
    diffs = random_diffs(2, layout)
    average(rule, diffs, layout)  # compiled now
    tracemalloc.start()
    average(rule, (diffs[n % 2] for n in range(count)), layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_of_an_iterative_plan_does_not_grow_with_the_number_of_diffs():
    assert peak_memory(50) < 1.1 * peak_memory(3) + 100_000


@pysyft
def test_pysyfts_iterative_plan_averages():
    plan = Plan.parse((FIXTURES / "avg_iterative" / "as_sent_by_client.plan.pb").read_bytes())
    inputs = State.parse((FIXTURES / "avg_iterative" / "input.state.pb").read_bytes()).tensors
    layout = layout_of(inputs[:4])
    diffs = random_diffs(5, layout)
    expect_mean(average(averaging_plan(plan, iterative=True), diffs, layout), diffs)


@pysyft
def test_pysyfts_plan_for_three_diffs_averages_three():
    folder = FIXTURES / "avg_noniterative_3"
    plan = Plan.parse((folder / "as_sent_by_client.plan.pb").read_bytes())
    inputs = State.parse((folder / "input.state.pb").read_bytes()).tensors
    expected = State.parse((folder / "expected_output.state.pb").read_bytes()).tensors
    layout = layout_of(expected)
    assert diffs_of_plan(plan, layout) == 3
    diffs = [inputs[n : n + 4] for n in (0, 4, 8)]
    for ours, theirs in zip(
        average(averaging_plan(plan, iterative=False), diffs, layout), expected, strict=True
    ):
        np.testing.assert_allclose(ours.array, theirs.array, atol=1e-6)
