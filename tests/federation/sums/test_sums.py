"""Sums of updates: weights that are told or not, metrics, counters; and bits that depend on nothing else."""

import pickle
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import AggregationError
from fedplan.federation import UNIFORM, Contribution, Sums, Update, UpdateBlock, Weighting
from fedplan.plan import Role
from fedplan.wire import MetricMean, Summary, WireTensor
from tests.federation.made import LAYOUT, random_diffs, random_updates, wire
from tests.long import LONG
from tests.memory import peak

ROLES = (Role.TRAINED,) * 3
BY_SAMPLES = Weighting(by_samples=True)


def summed(updates, weighting=BY_SAMPLES, layout=LAYOUT, roles=ROLES):
    total = Sums(layout, roles, weighting)
    for update in updates:
        total.add(update)
    return total


def bits(average):
    return [tensor.tobytes() for tensor in average.tensors], average.numbers, average.metrics, average.samples


@pytest.mark.parametrize("count", [1, 3, 50])
def test_the_mean_of_any_number_of_updates_is_exact(count):
    updates = random_updates(count)
    average = summed(updates, UNIFORM).average()
    for place, (shape, _) in enumerate(LAYOUT):
        expected = np.mean([update.tensors[place].array.astype(np.float64) for update in updates], axis=0)
        assert average.tensors[place].shape == shape
        np.testing.assert_allclose(average.tensors[place], expected, atol=1e-15, rtol=1e-15)


def test_an_update_counts_as_many_as_its_samples():
    updates = random_updates(20)
    weights = [update.summary.samples for update in updates]
    average = summed(updates).average()
    for place in range(3):
        expected = np.average([u.tensors[place].array.astype(np.float64) for u in updates], 0, weights)
        np.testing.assert_allclose(average.tensors[place], expected, rtol=1e-13)
    assert average.samples == sum(weights)
    assert average.reports == 20


def test_who_tells_no_samples_counts_as_the_mean_of_those_who_tell():
    updates = random_updates(10, untold=(2, 3, 7))
    told = [update.summary.samples for update in updates if update.summary.samples]
    weights = [update.summary.samples or np.mean(told) for update in updates]
    average = summed(updates).average()
    expected = np.average([u.tensors[0].array.astype(np.float64) for u in updates], 0, weights)
    np.testing.assert_allclose(average.tensors[0], expected, rtol=1e-13)


def test_when_nobody_tells_samples_all_count_the_same():
    updates = random_updates(5, untold=range(5))
    expected = np.mean([u.tensors[0].array.astype(np.float64) for u in updates], 0)
    np.testing.assert_allclose(summed(updates).average().tensors[0], expected, rtol=1e-13)


def test_an_untold_weight_and_a_bound_can_be_set():
    updates = random_updates(6, untold=(0,))
    weights = [min(update.summary.samples or 5.0, 100.0) for update in updates]
    average = summed(updates, Weighting(by_samples=True, untold=5.0, most=100.0)).average()
    expected = np.average([u.tensors[0].array.astype(np.float64) for u in updates], 0, weights)
    np.testing.assert_allclose(average.tensors[0], expected, rtol=1e-13)


def test_a_sum_holds_no_arrays_of_one_that_was_merged_into_it():
    layout, roles = (((3,), "float64"),), (Role.AVERAGED,)
    values = np.array([1.0, 2.0, 3.0])
    buffers: list[pickle.PickleBuffer] = []
    one = summed([Update([WireTensor(values, "float64")])], UNIFORM, layout, roles)
    head = pickle.dumps(one, protocol=5, buffer_callback=buffers.append)
    memory = [bytearray(buffer.raw()) for buffer in buffers]  # as processes that share memory have it
    total = Sums(layout, roles, UNIFORM)
    total.merge(pickle.loads(head, buffers=memory))
    for part in memory:
        part[:] = np.full(len(part) // 8, 7.0).tobytes()
    assert total.average().tensors[0].tolist() == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64", "int8", "int64"])
def test_tensors_of_any_dtype_are_averaged(dtype):
    values = [np.full(4, n, np.float32) for n in (0, 2, 2, 4)]
    if dtype == "bfloat16":
        tensors = [WireTensor((v.view(np.uint32) >> 16).astype(np.uint16), dtype) for v in values]
    else:
        tensors = [wire(v, dtype) for v in values]
    total = Sums((((4,), dtype),), (Role.TRAINED,))
    for tensor in tensors:
        total.add(Update([tensor]))
    assert total.average().tensors[0].tolist() == [2.0] * 4


def test_a_factor_scales_what_is_trained_and_not_running_statistics():
    roles = (Role.TRAINED, Role.AVERAGED, Role.TRAINED)
    diff = random_diffs(1)[0]
    total = Sums(LAYOUT, roles)
    total.add(Update(diff), Contribution(0.5, {"steps": 3.0}))
    average = total.average()
    np.testing.assert_array_equal(average.tensors[0], diff[0].array * 0.5)
    np.testing.assert_array_equal(average.tensors[1], diff[1].array)
    assert average.numbers == {"steps": 3.0}


def test_the_largest_counter_counts():
    layout = (((2,), "int64"),)
    total = Sums(layout, (Role.COUNTER,))
    for diff in ([-3, -10], [-5, -2], [0, -1]):  # original − trained
        total.add(Update([wire(diff, "int64")]))
    assert total.average().tensors[0].tolist() == [-5, -10]


def test_what_something_else_combines_is_left_out():
    total = Sums(LAYOUT, ROLES, skipped=(0, 2))
    total.add(random_updates(1)[0])
    average = total.average()
    assert not average.tensors[0].any()
    assert average.tensors[1].any()


def test_metrics_are_means_over_samples():
    total = Sums((((1,), "float32"),), (Role.TRAINED,), Weighting(by_samples=True, most=1000.0))
    for loss, accuracy, samples in ((1.0, 0.5, 10.0), (2.0, 1.0, 30.0), (9.0, 0.0, 1e9)):
        told = Summary(
            samples, 1, {"loss": MetricMean(loss, samples)}, {"accuracy": MetricMean(accuracy, samples)}
        )
        total.add(Update([wire([1.0])], told))
    total.add(Update([wire([1.0])]))
    metrics = total.average().metrics
    assert metrics["training_loss"] == MetricMean((10 + 60 + 9000) / 1040, 1040.0)
    assert metrics["accuracy"] == MetricMean(35 / 1040, 1040.0)


def test_there_is_no_average_of_nothing():
    with pytest.raises(AggregationError, match="no diff to average"):
        summed([]).average()


def test_what_could_make_a_sum_infinite_is_refused_and_nothing_is_added():
    total = Sums((((1,), "float64"), ((1,), "float64")), (Role.TRAINED,) * 2)
    total.add(Update([wire([1.0], "float64")] * 2))
    with pytest.raises(AggregationError, match="sums could become infinite"):
        total.add(Update([wire([1.0], "float64"), wire([1e301], "float64")]))
    assert [tensor.tolist() for tensor in total.average().tensors] == [[1.0], [1.0]]


def test_a_factor_does_not_hide_what_is_too_large_beside_the_trained_tensors():
    total = Sums((((1,), "float64"), ((1,), "float64")), (Role.TRAINED, Role.AVERAGED))
    total.add(Update([wire([1.0], "float64")] * 2))
    with pytest.raises(AggregationError, match="sums could become infinite"):
        total.add(Update([wire([1e30], "float64"), wire([1e301], "float64")]), Contribution(1e-30))
    average = total.average()
    assert (average.reports, [tensor.tolist() for tensor in average.tensors]) == (1, [[1.0], [1.0]])


@pytest.mark.parametrize(
    "made",
    [Contribution(numbers={"h": np.inf}), Contribution(metrics={"norm": MetricMean(np.nan, 1.0)})],
    ids=["numbers", "metrics"],
)
def test_what_is_not_finite_beside_the_tensors_is_refused_and_nothing_is_added(made):
    total = Sums(LAYOUT, ROLES, BY_SAMPLES)
    first, second = random_updates(2)
    total.add(first)
    before = bits(total.average())
    for refuse in (
        lambda: total.check(second, made),
        lambda: total.add(second, made),
        lambda: total.add_block(block_of([second]), [made]),
    ):
        with pytest.raises(AggregationError, match="is not finite"):
            refuse()
        assert (total.count, bits(total.average())) == (1, before)


def test_who_tells_no_weight_may_count_as_much_as_anybody_tells():
    layout = (((1,), "float64"),)
    large = Update([wire([1e200], "float64")])
    with pytest.raises(AggregationError, match="sums could become infinite"):
        Sums(layout, (Role.TRAINED,), BY_SAMPLES).add(large)
    Sums(layout, (Role.TRAINED,), Weighting(by_samples=True, most=1e9)).add(large)
    Sums(layout, (Role.TRAINED,)).add(large)


@given(st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 4), st.data())
@settings(max_examples=1000 if LONG else 200, deadline=None)
def test_neither_order_nor_grouping_nor_storing_changes_a_bit(seed, count, replicas, data):
    untold = data.draw(st.sets(st.integers(0, count - 1)))
    updates = random_updates(count, seed=seed, untold=untold)
    contributions = [Contribution(0.3 + n, {"steps": 1.7 * n}) for n in range(count)]
    straight = Sums(LAYOUT, ROLES, BY_SAMPLES)
    for update, contribution in zip(updates, contributions, strict=True):
        straight.add(update, contribution)

    parts = [Sums(LAYOUT, ROLES, BY_SAMPLES) for _ in range(replicas)]
    for number in data.draw(st.permutations(range(count))):
        parts[data.draw(st.integers(0, replicas - 1))].add(updates[number], contributions[number])
    merged = Sums(LAYOUT, ROLES, BY_SAMPLES)
    for part in data.draw(st.permutations(parts)):
        if data.draw(st.booleans()):
            merged.merge_bytes(part.serialize())
        else:
            merged.merge(part)

    assert bits(merged.average()) == bits(straight.average())


def block_of(updates):
    tensors = [
        WireTensor(np.stack([update.tensors[place].array for update in updates]), dtype)
        for place, (_, dtype) in enumerate(LAYOUT)
    ]
    return UpdateBlock(tensors, [update.summary for update in updates])


@given(st.integers(0, 2**32), st.integers(1, 9), st.integers(0, 9), st.booleans(), st.booleans())
@settings(max_examples=1000 if LONG else 100, deadline=None)
def test_several_at_once_give_the_bits_of_one_after_the_other(seed, count, before, untold, uniform):
    roles = (Role.TRAINED, Role.AVERAGED, Role.COUNTER)
    updates = random_updates(count + before, seed=seed, untold=range(count) if untold else ())
    contributions = [
        Contribution(0.3 + n, {"steps": 1.7 * n} if n % 2 else {}) for n in range(count + before)
    ]
    weighting = UNIFORM if uniform else BY_SAMPLES
    straight, together = Sums(LAYOUT, roles, weighting), Sums(LAYOUT, roles, weighting)
    for update, contribution in zip(updates, contributions, strict=True):
        straight.add(update, contribution)
    for update, contribution in zip(updates[count:], contributions[count:], strict=True):
        together.add(update, contribution)
    block = block_of(updates[:count])
    assert [update.summary for update in block] == [update.summary for update in updates[:count]]
    together.add_block(block, contributions[:count])

    assert bits(together.average()) == bits(straight.average())


def test_several_of_which_one_cannot_be_added_leave_the_sum_as_it_was():
    updates = random_updates(3, untold={1})
    total = summed(updates[:1])
    before = bits(total.average())
    with pytest.raises(AggregationError, match="only some"):
        total.add_block(block_of(updates), [Contribution()] * 3)
    updates[2].tensors[1].array[0] = np.inf
    with pytest.raises(AggregationError, match="sums could become infinite"):
        total.add_block(block_of([updates[0], updates[2]]), [Contribution()] * 2)
    assert bits(total.average()) == before


def test_a_sum_of_another_model_or_form_is_not_merged():
    part = Sums(LAYOUT, ROLES, BY_SAMPLES)
    part.add(random_updates(1, seed=3)[0])
    data = part.serialize()
    for layout in (LAYOUT[:-1], (*LAYOUT, ((3,), "float32"))):
        roles = (*ROLES, Role.TRAINED)[: len(layout)]
        other = Sums(layout, roles, BY_SAMPLES)
        with pytest.raises(AggregationError):
            other.merge_bytes(data)
        assert other.count == 0
    with pytest.raises(AggregationError, match="another version of fedplan"):
        part.merge_bytes(data.replace(b'"format": 3', b'"format": 9'))
    assert part.count == 1


def test_a_sum_is_written_in_one_copy_and_merged_without_one():
    layout = (((1_000_000,), "float32"),)
    part, merged = (Sums(layout, (Role.TRAINED,)) for _ in range(2))
    part.add(Update([wire(np.ones(1_000_000), "float32")]))
    merged.merge(part)
    tracemalloc.start()
    data = part.serialize()
    written = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    before = tracemalloc.get_traced_memory()[0]
    merged.merge_bytes(data)
    merging = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert len(data) < 24.1e6
    assert written < 25e6
    assert merging < 50e6  # the sum that it is read into has zeros of its own first


def peak_memory(count):
    layout = (((250_000,), "float32"),)  # 1 MB
    update = Update(random_diffs(1, layout)[0])

    def add_up():
        total = Sums(layout, (Role.TRAINED,))
        for _ in range(count):
            total.add(update)
        total.average()

    return peak(add_up)


def test_memory_does_not_grow_with_the_number_of_updates():
    few, many = peak_memory(3), peak_memory(50)
    assert many < 1.1 * few
    assert many < 19e6  # the sum's three digits, a copy of them, and room to divide in
