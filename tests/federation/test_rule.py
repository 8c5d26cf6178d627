import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import AggregationError, WireError
from fedplan.federation import Accumulated, check_average, mean
from fedplan.wire import State

from .tensors import LAYOUT, average, random_diffs, wire


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_mean_of_any_number_of_diffs_is_exact_to_1e_6(count):
    diffs = random_diffs(count)
    for index, tensor in enumerate(average(mean(), diffs)):
        expected = np.mean([diff[index].array.astype(np.float64) for diff in diffs], axis=0)
        assert tensor.dtype == "float32"
        assert tensor.shape == LAYOUT[index][0]
        np.testing.assert_allclose(tensor.array, expected, atol=1e-6, rtol=0)


def test_small_diffs_are_not_lost_beside_large_ones():
    diffs = [[wire([1e8])], *([wire([1.0])] for _ in range(99))]
    (tensor,) = average(mean(), diffs, (((1,), "float32"),))
    assert tensor.array[0] == np.float32((1e8 + 99) / 100)


@given(st.permutations(range(6)), st.integers(0, 6))
def test_neither_order_nor_sharding_changes_the_mean(order, cut):
    diffs = random_diffs(6)
    rule = mean()
    shards = []
    for part in (order[:cut], order[cut:]):
        state = rule.start(LAYOUT)
        for index in part:
            state = rule.add(state, diffs[index])
        shards.append(state)
    merged = rule.finish(rule.merge(*shards), LAYOUT)
    for one, other in zip(merged, average(rule, diffs), strict=True):
        np.testing.assert_allclose(one.array, other.array, atol=1e-6, rtol=0)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "int64"])
def test_the_mean_keeps_the_models_dtype(dtype):
    bits = "uint16" if dtype == "bfloat16" else dtype
    diffs = [[wire(np.full(4, n), bits)] for n in (0, 2, 2, 4)]
    if dtype == "bfloat16":
        diffs = [[wire_bits(value)] for value in (0.0, 2.0, 2.0, 4.0)]
    (tensor,) = average(mean(), diffs, (((4,), dtype),))
    assert tensor.dtype == dtype
    expected = wire_bits(2.0).array if dtype == "bfloat16" else np.full(4, 2)
    assert tensor.array.tolist() == expected.tolist()


def wire_bits(value):
    from fedplan.wire import WireTensor

    return WireTensor((np.full(4, value, np.float32).view(np.uint32) >> 16).astype(np.uint16), "bfloat16")


def test_means_of_integers_are_rounded():
    (tensor,) = average(mean(), [[wire([0, 1], "int64")], [wire([1, 2], "int64")]] * 2, (((2,), "int64"),))
    assert tensor.array.tolist() == [0, 2]  # 0.5 and 1.5, each to the nearest even number


def test_there_is_no_mean_of_nothing():
    with pytest.raises(AggregationError, match="no diff to average"):
        average(mean(), [])


def test_a_mean_beyond_the_dtype_is_refused():
    with pytest.raises(AggregationError, match="tensor 0 holds NaN or an infinite value"):
        mean().finish(Accumulated(1, (wire([1e300], "float64"),)), (((1,), "float32"),))


def test_a_state_can_be_stored_and_continued():
    diffs = random_diffs(4)
    rule = mean()
    state = rule.add(rule.add(rule.start(LAYOUT), diffs[0]), diffs[1])
    state = Accumulated.parse(state.serialize())
    assert state.count == 2
    for diff in diffs[2:]:
        state = rule.add(state, diff)
    for one, other in zip(rule.finish(state, LAYOUT), average(rule, diffs), strict=True):
        assert np.array_equal(one.array, other.array)


def test_other_bytes_are_no_state():
    with pytest.raises(WireError, match="not the state of an averaging rule"):
        Accumulated.parse(State.of(random_diffs(1)[0]).serialize())


@pytest.mark.parametrize("tensors", [[], random_diffs(1)[0][:2], [wire([np.nan])] * 3])
def test_an_average_that_does_not_fit_the_model_is_refused(tensors):
    with pytest.raises(AggregationError, match="the average does not fit the model"):
        check_average(tensors, LAYOUT)


def peak_memory(count):
    layout = (((250_000,), "float32"),)  # 1 MB
    diff = random_diffs(1, layout)[0]
    tracemalloc.start()
    average(mean(), (diff for _ in range(count)), layout)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_diffs():
    few, many = peak_memory(3), peak_memory(50)
    assert many < 1.1 * few
    assert many < 8e6  # the sum, the average, and room to divide in
