import numpy as np
import pytest
import torch

from fedplan.errors import AggregationError, ConfigError, PlanError
from fedplan.federation import average_by_plan, diffs_of_plan, layout_of, plan_shapes, strategy_of
from fedplan.plan import Plan, trace
from fedplan.wire import State
from tests.federation.made import random_diffs, setting
from tests.memory import peak
from tests.shared import FIXTURES

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
    expect_mean(average_by_plan(traced_iterative(), iter(diffs), LAYOUT, iterative=True), diffs)


@pytest.mark.parametrize("number", [1, 1.0, torch.tensor(1), torch.tensor([1.0])])
def test_the_number_comes_as_the_plan_was_traced_with_it(number):
    diffs = random_diffs(4, LAYOUT)
    plan = traced_iterative(number=number)
    expect_mean(average_by_plan(plan, iter(diffs), LAYOUT, iterative=True), diffs)
    assert tuple(plan.check(plan_shapes(plan, LAYOUT, iterative=True, diffs=1)).outputs) == LAYOUT


def test_a_plan_gets_all_diffs_one_after_the_other():
    diffs = random_diffs(3, LAYOUT)
    expect_mean(average_by_plan(traced_for(3), iter(diffs), LAYOUT, iterative=False), diffs)


def test_a_plan_tells_for_how_many_diffs_it_was_traced():
    assert diffs_of_plan(traced_for(4), LAYOUT) == 4


def test_a_plan_that_takes_no_whole_number_of_diffs_is_refused():
    with pytest.raises(AggregationError, match="5 inputs, which is no whole number of diffs of 2 tensors"):
        diffs_of_plan(traced_iterative(), LAYOUT)


@pytest.mark.parametrize("count", [2, 4])
def test_a_plan_traced_for_three_diffs_works_with_no_other_number(count):
    with pytest.raises(AggregationError, match="the averaging Plan failed"):
        average_by_plan(traced_for(3), iter(random_diffs(count, LAYOUT)), LAYOUT, iterative=False)


def test_what_a_plan_is_called_with_is_known_beforehand():
    plan = traced_for(3)
    cost = plan.check(plan_shapes(plan, LAYOUT, iterative=False, diffs=3))
    assert tuple(cost.outputs) == LAYOUT
    with pytest.raises(PlanError):
        plan.check(plan_shapes(plan, LAYOUT, iterative=False, diffs=2))


@pytest.mark.parametrize("iterative", [True, False])
def test_there_is_no_average_of_nothing(iterative):
    with pytest.raises(AggregationError, match="no diff to average"):
        average_by_plan(traced_for(3), iter([]), LAYOUT, iterative=iterative)


def test_a_plan_that_returns_nan_is_refused():
    plan = trace(lambda a, b: (a - a) / (b - b), torch.ones(4), torch.ones(4))
    layout = (((4,), "float32"),)
    with pytest.raises(AggregationError, match="tensor 0 holds NaN"):
        average_by_plan(plan, iter(random_diffs(2, layout)), layout, iterative=False)


def test_a_plan_that_returns_another_shape_is_refused():
    plan = trace(lambda a, b: (a + b).sum(), torch.ones(4), torch.ones(4))
    layout = (((4,), "float32"),)
    with pytest.raises(AggregationError, match=r"tensor 0 has the shape \[\]"):
        average_by_plan(plan, iter(random_diffs(2, layout)), layout, iterative=False)


def test_the_diffs_are_left_as_they_were():
    diffs = random_diffs(3, LAYOUT)
    before = [[tensor.array.copy() for tensor in diff] for diff in diffs]
    average_by_plan(traced_iterative(), iter(diffs), LAYOUT, iterative=True)
    for diff, copies in zip(diffs, before, strict=True):
        assert all(np.array_equal(tensor.array, copy) for tensor, copy in zip(diff, copies, strict=True))


def peak_memory(count):
    layout = (((250_000,), "float32"),)  # 1 MB
    plan = traced_iterative(layout)
    diffs = random_diffs(2, layout)
    average_by_plan(plan, iter(diffs), layout, iterative=True)  # compiled now
    return peak(lambda: average_by_plan(plan, (diffs[n % 2] for n in range(count)), layout, iterative=True))


def test_memory_of_an_iterative_plan_does_not_grow_with_the_number_of_diffs():
    assert peak_memory(50) < 1.1 * peak_memory(3) + 100_000


@pysyft
def test_pysyfts_iterative_plan_averages():
    plan = Plan.parse((FIXTURES / "avg_iterative" / "as_sent_by_client.plan.pb").read_bytes())
    inputs = State.parse((FIXTURES / "avg_iterative" / "input.state.pb").read_bytes()).tensors
    layout = layout_of(inputs[:4])
    diffs = random_diffs(5, layout)
    expect_mean(average_by_plan(plan, iter(diffs), layout, iterative=True), diffs)


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
        average_by_plan(plan, iter(diffs), layout, iterative=False), expected, strict=True
    ):
        np.testing.assert_allclose(ours.array, theirs.array, atol=1e-6)


PLACES = (1, 2)
WHOLE = (((3, 4), "float32"), ((4,), "float32"), ((), "float32"))
PART = WHOLE[1:]


def fold(step, diffs, count=2):
    """What a Plan over whole diffs makes of diffs that hold the last two tensors."""
    zeros = [torch.zeros(shape) for shape, _ in WHOLE * count]
    plan = Plan.parse(trace(step, *zeros).serialize())
    return strategy_of(setting(layout=WHOLE, changing=PLACES), lambda: plan).fold(diffs)


def test_a_plan_for_whole_diffs_gets_zeros_for_what_is_frozen():
    one, two = random_diffs(2, PART)
    middle, last = fold(lambda *t: (t[0] + t[3], t[1] - t[4] + t[0].sum(), t[2] * t[5]), [one, two])
    np.testing.assert_array_equal(middle.array, one[0].array - two[0].array)
    np.testing.assert_array_equal(last.array, one[1].array * two[1].array)


def test_an_average_that_changes_what_is_frozen_is_refused():
    with pytest.raises(AggregationError, match="changes tensor 0 of the model, which is frozen"):
        fold(lambda a, b, c: (a + 1, b, c), random_diffs(1, PART), count=1)


def test_a_plan_is_the_strategy_and_none_stands_beside_it():
    plan = traced_for(3)
    assert strategy_of(setting(layout=LAYOUT), lambda: plan).name == "averaging_plan"
    with pytest.raises(ConfigError, match="has an averaging Plan, which is its strategy"):
        strategy_of(setting({"strategy": "fedadam"}, layout=LAYOUT), lambda: plan)
