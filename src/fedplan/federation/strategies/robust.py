"""Strategies by robust rules: the average of a cycle in spite of workers that mislead."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import Field

from fedplan.federation import robust
from fedplan.federation.reports import Reports
from fedplan.federation.state import ServerState
from fedplan.federation.strategies.averaging import scaled
from fedplan.federation.strategies.configuration import Count, Number, Positive, StrategyConfig
from fedplan.federation.strategies.setting import Setting
from fedplan.federation.strategies.strategy import Change, Strategy
from fedplan.federation.sums import Average
from fedplan.federation.tensors import Float64s, Tensors

Rule = Callable[[Any, Reports, ServerState], Float64s]

Liars = Annotated[int, Field(ge=0, le=2**31 - 1)]
"""How many workers of a cycle may mislead: f in the papers."""


class RobustConfig(StrategyConfig):
    """What all robust rules may be told."""

    lr: Positive = 1.0
    """The server's learning rate."""
    bucketing: Annotated[int, Field(ge=2, le=2**31 - 1)] | None = None
    """Reports that are averaged before the rule sees them (Karimireddy et al. 2022; 2 in the paper)."""

    def least(self) -> int:
        """With fewer reports, or buckets, the rule cannot work."""
        return 1


class MedianConfig(RobustConfig):
    """Settings of the coordinate-wise median."""

    name: Literal["median"] = "median"


class TrimmedMeanConfig(RobustConfig):
    """Settings of the coordinate-wise trimmed mean."""

    name: Literal["trimmed_mean"] = "trimmed_mean"
    beta: Annotated[Number, Field(gt=0, lt=0.5)] = 0.2
    """The share of reports that is left out on each side."""

    def least(self) -> int:
        """So many that at least one is left out on each side."""
        return next(count for count in range(1, 2**31) if int(self.beta * count) >= 1)


class KrumConfig(RobustConfig):
    """Settings of Krum."""

    name: Literal["krum"] = "krum"
    f: Liars
    """How many workers of a cycle may mislead."""

    def least(self) -> int:
        """As the paper demands."""
        return 2 * self.f + 3


class MultiKrumConfig(RobustConfig):
    """Settings of Multi-Krum."""

    name: Literal["multi_krum"] = "multi_krum"
    f: Liars
    """How many workers of a cycle may mislead."""
    m: Count | None = None
    """How many reports are averaged; all but f by default."""

    def least(self) -> int:
        """As the paper demands, and as many as are averaged."""
        return max(2 * self.f + 3, (self.m or 0) + self.f)


class BulyanConfig(RobustConfig):
    """Settings of Bulyan."""

    name: Literal["bulyan"] = "bulyan"
    f: Liars
    """How many workers of a cycle may mislead."""

    def least(self) -> int:
        """As the paper demands."""
        return 4 * self.f + 3


class CentredClippingConfig(RobustConfig):
    """Settings of centred clipping."""

    name: Literal["centred_clipping"] = "centred_clipping"
    tau: Positive = 10.0
    """How far a report may pull at most; 10 in the paper."""
    iterations: Count = 3
    """How often."""


class GeometricMedianConfig(RobustConfig):
    """Settings of the geometric median."""

    name: Literal["geometric_median"] = "geometric_median"
    nu: Positive = 1e-6
    """Distances count as at least this."""


RULES: dict[type[RobustConfig], Rule] = {
    MedianConfig: lambda _, reports, __: robust.median(reports),
    TrimmedMeanConfig: lambda c, reports, _: robust.trimmed_mean(reports, c.beta),
    KrumConfig: lambda c, reports, _: robust.krum(reports, c.f),
    MultiKrumConfig: lambda c, reports, _: robust.multi_krum(reports, c.f, c.m),
    BulyanConfig: lambda c, reports, _: robust.bulyan(reports, c.f),
    CentredClippingConfig: lambda c, reports, state: robust.centred_clipping(
        reports, c.tau, c.iterations, next(iter(state.tensors.get("centre", ())), None)
    ),
    GeometricMedianConfig: lambda c, reports, _: robust.geometric_median(reports, c.nu),
}
"""The rule of each kind of settings."""


def by_rule(config: RobustConfig, setting: Setting) -> Strategy:
    """new model = model − lr × what the rule makes of the diffs.

    The rule combines the trained tensors, in which all reports count the same. Running statistics and metrics
    are averaged as with FedAvg.
    """
    rule, keeps_centre = RULES[type(config)], isinstance(config, CentredClippingConfig)

    def combine(reports: Reports, state: ServerState) -> Float64s:
        seen = reports if config.bucketing is None else robust.Bucketed(reports, config.bucketing)
        return rule(config, seen, state)

    def step(_model: Tensors, average: Average, state: ServerState) -> tuple[Change, ServerState]:
        if keeps_centre:
            state = ServerState({"centre": [setting.vector(average.tensors)]})
        return scaled(average, setting, config.lr), state

    buckets = config.bucketing or 1
    name: str = config.name
    return Strategy(name, setting, step, combine=combine, least_reports=buckets * config.least())
