"""The ε of noisy sums: against the numbers of others."""

import math

import pytest

from fedplan.errors import ConfigError
from fedplan.federation.privacy import (
    epsilon_after,
    epsilon_of,
    is_within_budget,
    most_cycles,
    multiplier_for,
)
from fedplan.federation.privacy.sampled import sampled_epsilon

RDP = {
    (1, 1.0, 1e-6): 5.2215396311544175,
    (3, 0.5, 1e-5): 21.44485232771325,
    (100, 5.0, 1e-5): 10.725509696418232,
    (200, 12.0, 1e-6): 6.294406518521836,
    (1000, 200.0, 1e-6): 0.7002126957830125,
}
"""By cycles, noise multiplier and δ: what dp_accounting 0.6 says (`rdp.RdpAccountant`)."""


def exact_delta(epsilon, mu):
    """The δ of one Gaussian mechanism with sensitivity μ and noise 1 (Balle and Wang 2018, theorem 8)."""

    def below(x):
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return below(mu / 2 - epsilon / mu) - math.exp(epsilon) * below(-mu / 2 - epsilon / mu)


@pytest.mark.parametrize(("case", "expected"), RDP.items())
def test_the_epsilon_is_that_of_dp_accounting(case, expected):
    assert epsilon_after(*case) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("case", RDP)
def test_the_table_is_what_dp_accounting_says(case):
    accounting = pytest.importorskip("dp_accounting", reason="the extra 'privacy' is not installed")
    cycles, multiplier, delta = case
    accountant = accounting.rdp.RdpAccountant()
    accountant.compose(accounting.GaussianDpEvent(multiplier), cycles)
    assert accountant.get_epsilon(delta) == pytest.approx(RDP[case], rel=1e-9)


@pytest.mark.parametrize("case", RDP)
def test_the_epsilon_holds_and_is_at_most_a_tenth_too_large(case):
    """The exact trade-off of Gaussian noise is known: ε may not be below it, and is not far above it."""
    cycles, multiplier, delta = case
    mu, epsilon = math.sqrt(cycles) / multiplier, epsilon_after(*case)
    assert exact_delta(epsilon, mu) <= delta
    assert exact_delta(0.9 * epsilon, mu) > delta


SAMPLED = {(0.01, 1.0, 1000, 1e-5): 1.83, (0.001, 0.8, 2000, 1e-6): 0.56, (1.0, 5.0, 100, 1e-5): 10.00}
"""By rate, noise multiplier, cycles and δ, as privacy loss distributions have it."""


@pytest.mark.parametrize(("case", "expected"), SAMPLED.items())
def test_what_sampling_would_give_is_what_is_published(case, expected):
    pytest.importorskip("dp_accounting", reason="the extra 'privacy' is not installed")
    rate, multiplier, cycles, delta = case
    assert sampled_epsilon(multiplier, rate, cycles, delta) == pytest.approx(expected, abs=0.006)


def test_published_numbers():
    """No sampling, σ = 5, T = 100, δ = 1e-5: RDP 10.73."""
    assert round(epsilon_after(100, 5.0, 1e-5), 2) == 10.73


def test_mechanisms_of_different_noise_add():
    assert epsilon_of([5.0] * 100, 1e-5) == pytest.approx(epsilon_after(100, 5.0, 1e-5))
    assert epsilon_of([3.0, 4.0], 1e-5) == pytest.approx(epsilon_of([2.4], 1e-5))
    assert epsilon_of([], 1e-5) == epsilon_after(0, 1.0, 1e-5) == 0


@pytest.mark.parametrize("epsilon", [0.5, 2.0, 8.0])
@pytest.mark.parametrize("cycles", [1, 200, 5000])
def test_a_budget_is_enough_for_exactly_the_cycles_that_it_was_made_for(epsilon, cycles):
    multiplier = multiplier_for(epsilon, 1e-6, cycles)
    assert epsilon_after(cycles, multiplier, 1e-6) <= epsilon
    assert epsilon_after(cycles, 0.999 * multiplier, 1e-6) > epsilon
    assert most_cycles(multiplier, 1e-6, epsilon) == cycles
    assert is_within_budget(epsilon_after(cycles, multiplier, 1e-6), epsilon)
    assert not is_within_budget(epsilon_after(cycles + 1, multiplier, 1e-6), epsilon)


@pytest.mark.parametrize(("epsilon", "delta", "cycles"), [(0, 0.1, 1), (1, 0, 1), (1, 1, 1), (1, 0.1, 0)])
def test_a_goal_that_cannot_be_is_refused(epsilon, delta, cycles):
    with pytest.raises(ConfigError, match="epsilon is above 0"):
        multiplier_for(epsilon, delta, cycles)
