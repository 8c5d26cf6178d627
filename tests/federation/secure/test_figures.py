"""Numbers beside the vector."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure import Figure, usual_figures
from fedplan.federation.secure.figures import from_ring, to_ring


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_whole_numbers_come_back_from_their_ring(numbers):
    assert from_ring(to_ring(numbers)) == tuple(numbers)


def test_a_number_is_rounded_to_the_nearest_step():
    figure = Figure("loss", 2, 10)

    assert [figure.encoded(value) for value in (1.0, -1.2, 0.125, 0.375, 10)] == [4, -5, 0, 2, 40]
    assert figure.decoded(-5) == -1.25


@pytest.mark.parametrize("value", [10.1, -11, math.inf, -math.inf, math.nan])
def test_a_number_that_might_make_the_sum_wrong_is_refused(value):
    with pytest.raises(SecureAggregationError, match="'loss' is"):
        Figure("loss", 2, 10).encoded(value)


def test_the_sum_is_held_against_what_reports_can_have():
    figure = Figure("loss", 2, 10)

    assert figure.may_be(-123, 3)
    assert not figure.may_be(124, 3)


@pytest.mark.parametrize("workers", [3, 1000, 100_000])
@pytest.mark.parametrize("weight", [1.0, 600.0, 1e9])
def test_the_usual_figures_fit_any_round_and_keep_digits(workers, weight):
    figures = usual_figures(workers, weight, {"loss": 100.0})

    assert [figure.name for figure in figures] == ["workers", "weight", "loss × weight", "weight of loss"]
    assert [figure.fault(workers) for figure in figures] == [None] * 4
    assert all(figure.fraction_bits >= 8 for figure in figures[1:3])


@pytest.mark.parametrize(
    "figure",
    [
        Figure("x", 41, 1.0),
        Figure("x", -1, 1.0),
        Figure("x", 0, 0.0),
        Figure("x", 0, math.inf),
        Figure("x", 40, 1e308),
        Figure("x", 32, 2e9),
    ],
)
def test_a_figure_that_may_overflow_has_a_fault(figure):
    assert figure.fault(1000) is not None
