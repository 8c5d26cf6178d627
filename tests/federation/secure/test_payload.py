"""A worker's update as whole numbers."""

import numpy as np
import pytest

from fedplan.errors import SecureAggregationError, SecureRoundError
from fedplan.federation.secure import Masked, Payload, average_of, payload_of
from fedplan.federation.secure.payload import sum_of
from tests.federation.secure.rounds import MOST_WEIGHT, SecureRound

MANIFEST = SecureRound(3).manifest
TENSORS = [np.linspace(-0.2, 0.2, 5, dtype=np.float32), np.zeros(0), np.full((3, 4), 0.03)]


def test_values_figures_and_what_is_left():
    payload, left = payload_of(MANIFEST, TENSORS, {"weight": 300.0}, bytes(32))
    steps = payload.values[:5] * 2.0**-6 * MOST_WEIGHT / 300

    assert payload.figures == (1, 300 << 32, 0, 0)
    assert [part.shape for part in left] == [(5,), (0,), (3, 4)]
    np.testing.assert_allclose(steps + left[0], TENSORS[0], atol=1e-12)
    assert np.abs(left[2]).max() <= 2.0**-8 * MOST_WEIGHT / 300


def test_rounding_is_drawn_anew_for_each_report():
    tensors = [np.full(size, 0.123) for size in MANIFEST.sizes]
    one, other = (payload_of(MANIFEST, tensors, {"weight": 600.0})[0].values for _ in range(2))

    assert (one != other).any()


@pytest.mark.parametrize(
    ("tensors", "figures", "why"),
    [
        (TENSORS[:2], {"weight": 1.0}, "other tensors"),
        (TENSORS, {}, "needs the figure 'weight', and may have loss × weight, weight of loss"),
        (TENSORS, {"weight": 1.0, "workers": 2.0}, "needs the figure"),
        (TENSORS, {"weight": 601.0}, "share of the largest weight"),
        (TENSORS, {"weight": 0.0}, "share of the largest weight"),
        (TENSORS, {"weight": 1.0, "loss × weight": 1e9}, "'loss × weight' is"),
        ([np.full(5, np.nan), *TENSORS[1:]], {"weight": 1.0}, "not finite"),
    ],
)
def test_an_update_that_does_not_fit_is_refused(tensors, figures, why):
    with pytest.raises(SecureAggregationError, match=why):
        payload_of(MANIFEST, tensors, figures)


def masked(values, figures):
    return Payload(np.array(values + [0] * (17 - len(values))), tuple(figures)).masked(MANIFEST)


def test_a_sum_that_reports_can_have_is_taken():
    total = sum_of(MANIFEST, masked([-381, 381], (3, 1800 << 32, 0, 0)), 3)

    assert total.values[:2].tolist() == [-381, 381]
    assert average_of(MANIFEST, total).tensors[0][0] == -381 * 2.0**-6 * 600 / 1800


@pytest.mark.parametrize(
    ("values", "figures", "why"),
    [
        ([382], (3, 1, 0, 0), "a value is out of range"),
        ([-382], (3, 1, 0, 0), "a value is out of range"),
        ([0], (2, 1, 0, 0), "not the sum of 3 reports, for it counts 2"),
        ([0], (3, 1801 << 32, 0, 0), "cannot have the sum that is left of 'weight'"),
        ([0], (3, 1, -(2**62), 0), "cannot have the sum that is left of 'loss × weight'"),
    ],
)
def test_a_sum_that_reports_cannot_have_ends_the_round(values, figures, why):
    with pytest.raises(SecureRoundError, match=why):
        sum_of(MANIFEST, masked(values, figures), 3)


def test_reports_that_weigh_nothing_have_no_average():
    with pytest.raises(SecureRoundError, match="weigh nothing"):
        average_of(MANIFEST, Payload(np.zeros(17, np.int64), (3, 0, 0, 0)))


def test_noise_is_no_sum():
    """What is left where masks do not cancel passes with a probability of about 2^-64."""
    chance = np.random.default_rng(0)
    noise = Masked(
        MANIFEST.ring,
        chance.integers(0, 2**10, 17).astype("<u2"),
        chance.integers(0, 2**64, 4, dtype=np.uint64),
    )
    with pytest.raises(SecureRoundError):
        sum_of(MANIFEST, noise, 3)
