"""Parts of a model."""

import numpy as np
import pytest

from fedplan.federation import changed_outside, others, part_of
from fedplan.wire import WireTensor
from tests.federation.made import wire


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
