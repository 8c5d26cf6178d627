import numpy as np
import pytest

from fedplan.errors import AggregationError
from fedplan.federation import apply, check_average
from tests.federation.made import LAYOUT, random_diffs, wire


def test_the_new_model_is_the_old_one_minus_the_averaged_diff():
    (tensor,) = apply([wire([1.0, 2.0])], [wire([0.25, -0.5])])
    assert tensor.array.tolist() == [0.75, 2.5]


def test_integers_stay_integers():
    (tensor,) = apply([wire([10], "int64")], [wire([3], "int64")])
    assert tensor.dtype == "int64"
    assert tensor.array.tolist() == [7]


def test_a_model_that_overflows_is_refused():
    greatest = np.finfo(np.float32).max
    with pytest.raises(AggregationError, match="the changed model is not usable: tensor 0 holds NaN"):
        apply([wire([greatest])], [wire([-greatest])])


def test_a_float32_difference_is_that_of_float64_rounded():
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, (2, 100_000), dtype=np.uint32).view(np.float32)
    a, b = (np.where(np.isfinite(side) & (abs(side) < 1e38), side, 0) for side in bits)
    (tensor,) = apply([wire(a)], [wire(b)])
    expected = (a.astype(np.float64) - b.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(tensor.array.view(np.uint32), expected.view(np.uint32))


@pytest.mark.parametrize("tensors", [[], random_diffs(1)[0][:2], [wire([np.nan])] * 3])
def test_an_average_that_does_not_fit_the_model_is_refused(tensors):
    with pytest.raises(AggregationError, match="the average does not fit the model"):
        check_average(tensors, LAYOUT)
