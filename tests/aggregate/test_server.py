import numpy as np
import pytest

from fedplan.aggregate import plain
from fedplan.errors import AggregationError

from .tensors import wire


def step(model, diff):
    optimizer = plain()
    layout = tuple((tensor.shape, tensor.dtype) for tensor in model)
    changed, _ = optimizer.step(model, diff, optimizer.start(layout))
    return changed


def test_the_new_model_is_the_old_one_minus_the_averaged_diff():
    (tensor,) = step([wire([1.0, 2.0])], [wire([0.25, -0.5])])
    assert tensor.array.tolist() == [0.75, 2.5]


def test_integers_stay_integers():
    (tensor,) = step([wire([10], "int64")], [wire([3], "int64")])
    assert tensor.dtype == "int64"
    assert tensor.array.tolist() == [7]


def test_a_model_that_overflows_is_refused():
    greatest = np.finfo(np.float32).max
    with pytest.raises(AggregationError, match="the changed model is not usable: tensor 0 holds NaN"):
        step([wire([greatest])], [wire([-greatest])])
