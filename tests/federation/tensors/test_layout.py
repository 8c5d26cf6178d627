import numpy as np
import pytest

from fedplan.errors import AggregationError
from fedplan.federation import layout_of, misfit, reach_of
from fedplan.wire import WireTensor
from tests.federation.made import LAYOUT, random_diffs, wire

NOT_FINITE = (
    "holds NaN or an infinite value. It comes from such values in the data, or from a learning rate that is "
    "too large"
)


def why_not(tensors):
    return misfit(tensors, LAYOUT, reach_of(tensors))


def test_a_layout_is_the_shape_and_dtype_of_each_tensor():
    assert layout_of(random_diffs(1)[0]) == LAYOUT


def test_a_model_needs_at_least_one_tensor():
    with pytest.raises(AggregationError, match="without tensors"):
        layout_of([])


@pytest.mark.parametrize("dtype", ["bool", "uint8", "quint8"])
def test_a_dtype_whose_differences_mean_nothing_is_refused(dtype):
    storage = np.zeros(2, bool if dtype == "bool" else np.uint8)
    with pytest.raises(AggregationError, match=f"tensor 1 has the dtype {dtype}"):
        layout_of([wire([1.0]), WireTensor(storage, dtype)])


def test_tensors_of_the_models_layout_fit():
    assert why_not(random_diffs(1)[0]) is None


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda d: d[:2], "it holds 2 tensors, the model 3"),
        (lambda d: [*d, wire([1.0])], "it holds 4 tensors, the model 3"),
        (lambda d: [d[1], d[0], d[2]], "tensor 0 has the shape [4], the model's has [3, 4]"),
        (
            lambda d: [d[0], wire([0.0] * 4, "float64"), d[2]],
            "tensor 1 is of float64, the model's of float32",
        ),
        (lambda d: [d[0], wire([0, np.nan, 0, 0]), d[2]], f"tensor 1 {NOT_FINITE}"),
        (lambda d: [d[0], d[1], wire(np.inf)], f"tensor 2 {NOT_FINITE}"),
    ],
)
def test_what_does_not_fit_is_said_with_the_tensor_that_is_wrong(change, reason):
    assert why_not(change(random_diffs(1)[0])) == reason
