"""Integer noise: its distribution, and where its chance comes from."""

import math

import numpy as np
import pytest
from scipy import stats

from fedplan.federation.privacy import NoiseStream, discrete_gaussian

KEY = bytes(range(32))
DRAWS = 200_000


def chances(sigma, reach):
    """The probability of each integer from −reach to reach."""
    x = np.arange(-reach, reach + 1)
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


def chi_square(drawn, sigma):
    """The p-value of draws under a stated σ; integers that are seldom go with the last common one."""
    common = chances(sigma, math.ceil(8 * sigma) + 1)
    reach = len(common) // 2
    last = int(np.flatnonzero(common * len(drawn) >= 20)[-1]) - reach
    counts = np.bincount(np.clip(drawn, -last, last) + last, minlength=2 * last + 1)
    expected = common[reach - last : reach + last + 1].copy()
    expected[0] += common[: reach - last].sum()
    expected[-1] += common[reach + last + 1 :].sum()
    return stats.chisquare(counts, expected * len(drawn)).pvalue


class TestTheNoise:
    @pytest.mark.parametrize("sigma", [0.5, 0.9, 1.0, 1.7, 4.0, 33.3])
    def test_has_the_probabilities_of_a_discrete_gaussian(self, sigma):
        assert chi_square(discrete_gaussian(NoiseStream(KEY), sigma, DRAWS), sigma) > 1e-3

    @pytest.mark.parametrize("sigma", [2.0**20, 1.3 * 2**20, 1.99 * 2**20])
    def test_of_many_units_is_a_gaussian(self, sigma):
        drawn = discrete_gaussian(NoiseStream(KEY), sigma, DRAWS)
        assert stats.kstest(drawn / sigma, "norm").pvalue > 1e-3

    @pytest.mark.parametrize("times", [0.25, 0.97, 1.03])
    def test_of_another_size_than_is_stated_is_found(self, times):
        small = discrete_gaussian(NoiseStream(KEY), times * 4.0, DRAWS)
        large = discrete_gaussian(NoiseStream(KEY), times * 2**20, DRAWS)
        assert chi_square(small, 4.0) < 1e-6
        assert stats.kstest(large / 2**20, "norm").pvalue < 1e-6

    def test_is_independent_from_one_value_to_the_next(self):
        drawn = discrete_gaussian(NoiseStream(KEY), 1000.0, DRAWS) / 1000
        for lag in (1, 2, 7):
            assert abs(np.mean(drawn[lag:] * drawn[:-lag])) < 5 / math.sqrt(DRAWS)

    def test_has_as_many_values_as_are_asked_for(self):
        for count in (0, 1, 5, 1 << 18, (1 << 19) + 3):
            assert discrete_gaussian(NoiseStream(KEY), 9.0, count).shape == (count,)


class TestAKey:
    def test_gives_the_same_noise_again(self):
        one, two = (discrete_gaussian(NoiseStream(KEY), 50.0, 1000) for _ in range(2))
        assert (one == two).all()

    def test_of_another_checkpoint_gives_other_noise(self):
        one = discrete_gaussian(NoiseStream(KEY), 50.0, 1000)
        other = discrete_gaussian(NoiseStream(KEY[::-1]), 50.0, 1000)
        assert np.mean(one == other) < 0.05

    def test_is_aes_in_counter_mode(self):
        """NIST's AES-256 of a zero block under a zero key (CAVP, GFSbox/KeySbox: DC95C078A2408989…)."""
        words = NoiseStream(bytes(32)).words(2)
        assert words.tobytes().hex() == "dc95c078a2408989ad48a21492842087"

    @pytest.mark.parametrize("size", [0, 16, 31, 33])
    def test_has_32_bytes(self, size):
        with pytest.raises(ValueError, match="32 bytes"):
            NoiseStream(bytes(size))
