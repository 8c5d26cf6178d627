"""Real numbers as small whole ones."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure import dequantise, draws, exponent_for, most_of, next_exponent, quantise

KEY = bytes(range(32))


@given(st.floats(1e-30, 1e30), st.integers(2, 24))
def test_the_exponent_is_the_least_that_clips_nothing(largest, bits):
    exponent = exponent_for(largest, bits)

    assert math.ldexp(most_of(bits), exponent) >= largest > math.ldexp(most_of(bits), exponent - 1)


def test_the_exponent_of_nothing_is_that_of_one():
    assert exponent_for(0.0, 8) == exponent_for(1.0, 8) == -6


@pytest.mark.parametrize("largest", [-1.0, math.inf, math.nan, 1e300])
def test_a_magnitude_that_nobody_can_mean_is_refused(largest):
    with pytest.raises(SecureAggregationError):
        exponent_for(largest, 8)


def test_rounding_to_the_nearest():
    made = quantise(np.array([0.5, 1.5, -0.4, 3.0, 1000, -1000], np.float32), 0, 8)

    assert made.values.tolist() == [0, 2, 0, 3, 127, -127]
    assert made.left.tolist() == [0.5, -0.5, pytest.approx(-0.4), 0.0, 873, -873]


def test_stochastic_rounding_is_unbiased():
    numbers = np.full(200_000, 0.3)
    values = quantise(numbers, 0, 8, drawn=draws(KEY, len(numbers))).values

    assert set(values.tolist()) == {0, 1}
    assert values.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / len(numbers)))


def test_stochastic_rounding_leaves_whole_numbers_as_they_are():
    whole = np.arange(-127, 128).astype(np.float64)

    assert quantise(whole, 0, 8, drawn=draws(KEY, len(whole))).values.tolist() == whole.tolist()


@given(st.lists(st.floats(-300, 300, width=32)), st.sampled_from([2, 8, 16, 24]), st.floats(0.01, 1))
def test_nothing_is_lost_but_goes_into_what_is_left(numbers, bits, share):
    made = quantise(np.array(numbers, np.float32), -3, bits, share, draws(KEY, len(numbers)))
    back = dequantise(made.values, -3) / share + made.left

    assert np.abs(made.values).max(initial=0) <= most_of(bits)
    np.testing.assert_allclose(back, np.array(numbers, np.float32), rtol=1e-12, atol=1e-12)


def test_a_share_scales_what_is_reported():
    assert quantise(np.array([8.0, -4.0]), 0, 8, share=0.25).values.tolist() == [2, -1]


@pytest.mark.parametrize("share", [0.0, 1.01, -1.0, math.nan])
def test_a_share_is_over_0_and_up_to_1(share):
    with pytest.raises(SecureAggregationError, match="share"):
        quantise(np.zeros(1), 0, 8, share)


@pytest.mark.parametrize("number", [math.inf, -math.inf, math.nan])
def test_a_number_that_is_not_finite_is_refused(number):
    with pytest.raises(SecureAggregationError, match="not finite"):
        quantise(np.array([0.0, number]), 0, 8)


def test_a_number_that_float64_cannot_hold_beside_the_scale_is_refused():
    with pytest.raises(SecureAggregationError, match="too large beside the round's scale"):
        quantise(np.array([1e300]), -400, 8)
    with pytest.raises(SecureAggregationError, match="exponent is −500 to 500"):
        quantise(np.zeros(1), 501, 8)


@pytest.mark.parametrize("bits", [1, 25])
def test_bits_of_a_value_are_bounded(bits):
    with pytest.raises(SecureAggregationError, match="2 to 24 bits"):
        most_of(bits)


def test_the_next_cycles_scale_follows_the_average():
    assert next_exponent(-6, np.array([0.0]), 8) == -6
    assert next_exponent(-6, np.array([1e-9]), 8) == -7, "no more than half as large at once"
    assert next_exponent(-6, np.array([-1.0, 0.5]), 8) == exponent_for(4.0, 8) == -4
