import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import AggregationError
from fedplan.federation import apply, is_within, reach_of
from fedplan.federation.tensors.numbers import from_float64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "int8", "int64"])
def test_is_the_largest_magnitude(dtype):
    tensors = [from_float64(np.array(values), dtype) for values in ([1.0, -3.0, 2.0], [0.0], [5.0, -4.0])]
    assert reach_of(tensors) == (3, 0, 5)


def test_of_nothing_is_nothing():
    assert reach_of([from_float64(np.zeros((0, 3)), "float32")]) == (0,)


@given(
    st.sampled_from(["float16", "bfloat16", "float32", "int8", "int16"]),
    st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1)), min_size=1, max_size=5),
    st.floats(1, 3e38),
)
def test_what_is_within_can_always_be_subtracted(dtype, pairs, scale):
    largest = {"float16": 65_000.0, "int8": 127.0, "int16": 32767.0}.get(dtype, 3.3e38)
    values = np.clip(np.array(pairs) * scale, -largest, largest)
    model, diff = ([from_float64(values[:, side], dtype)] for side in (0, 1))
    layout = ((model[0].shape, dtype),)
    if is_within(reach_of(model), reach_of(diff), layout):
        apply(model, diff)


def test_what_is_not_within_may_fail():
    model, diff = [from_float64(np.array([100.0]), "int8")], [from_float64(np.array([-100.0]), "int8")]
    assert not is_within(reach_of(model), reach_of(diff), (((1,), "int8"),))
    with pytest.raises(AggregationError):
        apply(model, diff)
