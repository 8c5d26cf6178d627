"""Strategies that average by a robust rule, for cycles in which some workers may send anything.

The rule combines the trained tensors. Running statistics and counters are averaged as always, each report
counting the same, so they stay within what workers sent and are not protected beyond that.
"""

import abc
import math
from fractions import Fraction
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from fedplan.federation import robust
from fedplan.federation.reports import Reports
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Float64s, Tensors
from fedplan.wire.amounts import Count

Liars = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""How many of the reports of a cycle may be anything: f in the papers."""


class RobustConfig(StrategyConfig, abc.ABC):
    """Settings that all robust rules have."""

    lr: Positive = 1.0
    """The server's learning rate: what the combined diff is multiplied by."""
    bucketing: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    """Reports are averaged in random buckets of so many first (s in Karimireddy et al. 2022, who take 2): for
    workers whose data differ. The rule then sees each bucket as one report."""

    @property
    def least(self) -> int:
        """Reports, or buckets, that the rule needs."""
        return 3  # of one or two nobody can say which is the lie

    @property
    def most(self) -> int | None:
        """Reports, or buckets, with which the rule still works; None: any number."""
        return None

    @property
    def keeps_centre(self) -> bool:
        """Whether the rule begins with what it made in the cycle before."""
        return False

    @abc.abstractmethod
    def rule(self, reports: Reports, centre: Float64s | None) -> Float64s:
        """Combines reports, or buckets: (elements,).

        Args:
            reports: or buckets.
            centre: what it made in the cycle before, if it keeps that: (elements,).
        """

    def instead(self, _count: int) -> str:
        """What to set so that so many reports, or buckets, are enough; "" if nothing would do."""
        return ""


class MedianConfig(RobustConfig):
    """Settings of the coordinate-wise median."""

    name: Literal["median"] = "median"

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.median`."""
        return robust.median(reports)


class TrimmedMeanConfig(RobustConfig):
    """Settings of the trimmed mean. Either `beta` or `f` is told."""

    name: Literal["trimmed_mean"] = "trimmed_mean"
    beta: Annotated[float, Field(gt=0, lt=0.5)] = 0.2
    """The share of the reports that is left out on each side: no less than the share of lies."""
    f: Count | None = None
    """How many are left out on each side, in place of a share."""

    @model_validator(mode="after")
    def _told_once(self) -> Self:
        if "beta" in self.model_fields_set and self.f is not None:
            raise ValueError("'beta' and 'f' say the same in two ways: leave one of them out")
        return self

    @property
    def _share(self) -> Fraction:
        return Fraction(str(self.beta))  # as it is written: 0.29 of 100 are 29

    @property
    def least(self) -> int:
        """So many that something is left out, and something stays."""
        return math.ceil(1 / self._share) if self.f is None else 2 * self.f + 1

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.trimmed_mean`."""
        trimmed = math.floor(self._share * reports.count) if self.f is None else self.f
        return robust.trimmed_mean(reports, trimmed)

    def instead(self, count: int) -> str:
        """A number in place of the share, or a smaller one."""
        return _at_most("f", (count - 1) // 2) if count >= 3 else ""


class KrumConfig(RobustConfig):
    """Settings of Krum."""

    name: Literal["krum"] = "krum"
    f: Liars
    """How many of the reports may be anything."""

    @property
    def least(self) -> int:
        """2f + 3."""
        return 2 * self.f + 3

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.krum`."""
        return robust.krum(reports, self.f)

    def instead(self, count: int) -> str:
        """A smaller `f`."""
        return _at_most("f", (count - 3) // 2)


class MultiKrumConfig(KrumConfig):
    """Settings of Multi-Krum."""

    name: Literal["multi_krum"] = "multi_krum"  # type: ignore[assignment]
    m: Count | None = None
    """How many reports are averaged; when absent, all but f."""

    @property
    def least(self) -> int:
        """2f + 3, and so many that m of them are honest."""
        return max(2 * self.f + 3, (self.m or 0) + self.f)

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.multi_krum`."""
        return robust.multi_krum(reports, self.f, self.m)

    def instead(self, count: int) -> str:
        """A smaller `f`, or a smaller `m`."""
        if count < 2 * self.f + 3:
            return super().instead(count)
        return _at_most("m", count - self.f)


class BulyanConfig(RobustConfig):
    """Settings of Bulyan."""

    name: Literal["bulyan"] = "bulyan"
    f: Liars
    """How many of the reports may be anything."""

    @property
    def least(self) -> int:
        """4f + 3."""
        return 4 * self.f + 3

    @property
    def most(self) -> int | None:
        """All pairs are compared."""
        return robust.MOST_COMPARED

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.bulyan`."""
        return robust.bulyan(reports, self.f)

    def instead(self, count: int) -> str:
        """A smaller `f`."""
        return _at_most("f", (count - 3) // 4)


class CentredClippingConfig(RobustConfig):
    """Settings of centred clipping. It begins at the last cycle's average; the first cycle at a diff of 0."""

    name: Literal["centred_clipping"] = "centred_clipping"
    tau: Positive | None = None
    """τ, the radius of clipping, as a norm of diffs; when absent, the median of the reports' distances."""
    iterations: Count = 3
    """How often the centre moves."""

    @property
    def least(self) -> int:
        """A radius that is told bounds a single report too."""
        return 3 if self.tau is None else 1

    @property
    def keeps_centre(self) -> bool:
        """It does."""
        return True

    def rule(self, reports: Reports, centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.centred_clipping`."""
        return robust.centred_clipping(reports, self.tau, self.iterations, centre)

    def instead(self, _count: int) -> str:
        """A radius."""
        return "set 'tau'"


class GeometricMedianConfig(RobustConfig):
    """Settings of the geometric median, by the smoothed Weiszfeld algorithm."""

    name: Literal["geometric_median"] = "geometric_median"
    nu: Positive = 1e-6
    """ν, the smoothing: no distance counts as less."""
    iterations: Count = 3
    """How often the point moves."""

    def rule(self, reports: Reports, _centre: Float64s | None) -> Float64s:
        """See `fedplan.federation.robust.geometric_median`."""
        return robust.geometric_median(reports, self.nu, self.iterations)


def robust_strategy(config: RobustConfig, setting: Setting) -> Strategy:
    """The strategy of a robust rule: new model = model − lr × combined diffs."""
    size = config.bucketing or 1

    def combine(reports: Reports, state: ServerState) -> Float64s:
        if size > 1:
            reports = robust.Buckets(reports, size, robust.fingerprint(reports))
        return config.rule(reports, next(iter(state.tensors.get("centre", ())), None))

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        if config.keeps_centre:
            state = ServerState({"centre": [setting.vector(average.tensors)]})
        return scaled(average, setting, config.lr), state

    def advice(count: int) -> str:
        return config.instead(-(-count // size))

    return Strategy(
        config.name,
        setting,
        step,
        uniform=True,
        combine=combine,
        least_reports=(config.least - 1) * size + 1,
        most_reports=None if config.most is None else config.most * size,
        advice=advice,
    )


def _at_most(name: str, most: int) -> str:
    return f"set '{name}' to at most {most}" if most >= 0 else ""
