"""What is added up of a report, and what is released of the sum."""

import math

import numpy as np
import pytest
from scipy import stats

from fedplan.errors import AggregationError, ConfigError
from fedplan.federation.privacy import CentralGaussian, Clip, clipped_values

SHAPES = ((30, 20), (20,), ())
ELEMENTS = 621
KEY = bytes(32)


def mechanism(clip=1.0, noise_multiplier=1.5, cohort=10, *, per_layer=False):
    return CentralGaussian(Clip(clip, per_layer), noise_multiplier, cohort, ELEMENTS)


def report(scale, seed=0):
    rng = np.random.default_rng(seed)
    return [scale * rng.normal(size=shape) for shape in SHAPES]


def norm(arrays):
    return math.sqrt(math.fsum(float(value) ** 2 for array in arrays for value in np.ravel(array)))


class TestAReport:
    @pytest.mark.parametrize("per_layer", [False, True])
    @pytest.mark.parametrize("scale", [1e-3, 0.04, 1.0, 1e30, 1e200])
    @pytest.mark.parametrize("clip", [1e-6, 1.0, 3e5])
    def test_has_no_larger_norm_than_the_clip_once_it_is_rounded(self, clip, scale, per_layer):
        made = mechanism(clip, per_layer=per_layer)
        assert norm(made.bounded(report(clip * scale))) <= clip

    def test_of_a_huge_norm_counts_like_one_at_the_clip(self):
        far, near = mechanism().bounded(report(1e100)), mechanism().bounded(report(1.0))
        assert norm(far) == pytest.approx(1.0, rel=1e-4)
        for one, other in zip(far, near, strict=True):
            np.testing.assert_allclose(one, other, atol=1e-6)

    def test_within_the_clip_is_only_rounded(self):
        made, sent = mechanism(), report(0.01)
        for before, after in zip(sent, made.bounded(sent), strict=True):
            assert np.abs(after - before).max() <= made.unit / 2

    def test_is_whole_units(self):
        made = mechanism(0.37)
        for array in made.bounded(report(1.0)):
            assert (array / made.unit == np.rint(array / made.unit)).all()

    @pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
    def test_that_is_not_finite_is_refused(self, bad):
        sent = report(1.0)
        sent[1][3] = bad
        with pytest.raises(AggregationError, match="not finite"):
            mechanism().bounded(sent)

    def test_is_clipped_by_tensor_where_the_owner_wants_that(self):
        sent = [np.full((4,), 100.0), np.full((4,), 0.01), np.zeros(2)]
        one, two, three = clipped_values(sent, Clip(3.0, per_layer=True))
        assert norm([one]) == pytest.approx(3 / math.sqrt(3))
        assert (two == sent[1]).all()
        assert (three == 0).all()


class TestWhatIsReleased:
    def test_is_the_sum_with_integer_noise_over_the_cohort(self):
        made = mechanism(clip=2.0, noise_multiplier=0.8, cohort=7)
        reports = [made.bounded(report(0.05, seed)) for seed in range(5)]
        sums = [np.sum(arrays, axis=0) for arrays in zip(*reports, strict=True)]
        released = made.released([array / 5 for array in sums], 5, KEY)
        for exact, noisy in zip(sums, released, strict=True):
            units = (noisy * 7 - exact) / made.unit
            np.testing.assert_allclose(units, np.rint(units), atol=1e-2)

    @pytest.mark.parametrize("cohort", [1, 10, 1000])
    def test_has_the_noise_that_is_stated(self, cohort):
        made = CentralGaussian(Clip(0.5), 2.0, cohort, 50_000)
        (noise,) = made.released([np.zeros(50_000)], 3, KEY)
        assert stats.kstest(noise * cohort / made.sigma, "norm").pvalue > 1e-3
        assert made.sigma == 1.0

    @pytest.mark.parametrize("times", [0.25, 4.0])
    def test_with_other_noise_than_is_stated_would_be_found(self, times):
        made = CentralGaussian(Clip(0.5), 2.0 * times, 10, 50_000)
        (noise,) = made.released([np.zeros(50_000)], 3, KEY)
        assert stats.kstest(noise * 10 / 1.0, "norm").pvalue < 1e-6

    def test_does_not_depend_on_how_many_reported_but_by_their_sum(self):
        made = mechanism()
        sums = made.bounded(report(0.5))
        for two, three in zip(
            made.released([array / 2 for array in sums], 2, KEY),
            made.released([array / 3 for array in sums], 3, KEY),
            strict=True,
        ):
            assert (two == three).all()

    def test_is_exact_for_a_million_reports_at_the_clip(self):
        made = CentralGaussian(Clip(1.0), 1e-3, 2**20, 1)
        reports = 2**20 - 1
        own = made.bounded([np.array([1.0])])[0][0]
        (released,) = made.released([np.array([own])], reports, KEY)
        (noise,) = made.released([np.array([0.0])], reports, KEY)
        units = round((released[0] - noise[0]) * 2**20 / made.unit)
        assert units == round(own / made.unit) * reports


def test_a_noise_so_large_that_rounding_would_lose_the_report_is_refused():
    with pytest.raises(ConfigError, match="smaller noise_multiplier"):
        CentralGaussian(Clip(1.0), 1000.0, 10, 10**8).check()
