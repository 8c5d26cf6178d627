"""Metrics of many workers, added up exactly."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

from fedplan.federation.update import Weighting
from fedplan.wire import MetricMean, Summary
from fedplan.wire.messages import MetricStatus


@dataclasses.dataclass(frozen=True, slots=True)
class MetricSum:
    """A metric's mean over the samples of many workers, as a sum. Sums add: a commutative monoid.

    Attributes:
        total: the sum of value × weight.
        weight: the sum of the weights.
        workers: how many told it.
    """

    total: Fraction = Fraction(0)
    weight: Fraction = Fraction(0)
    workers: int = 0

    @classmethod
    def of_all(cls, told: Sequence[tuple[float, float]]) -> Self:
        """The metric of several workers: (value, weight) of each; all are finite."""
        return cls(total_of(told), total_of([(weight, 1.0) for _, weight in told]), len(told))

    @classmethod
    def of(cls, value: float, weight: float) -> Self:
        """The metric of one worker; both numbers are finite."""
        return cls(Fraction(value) * Fraction(weight), Fraction(weight), 1)

    def __add__(self, other: "MetricSum") -> "MetricSum":
        return MetricSum(self.total + other.total, self.weight + other.weight, self.workers + other.workers)

    @property
    def mean(self) -> MetricMean:
        """The mean and its weight, each rounded once. There is at least one worker."""
        return MetricMean(float(self.total / self.weight), float(self.weight))

    def to_json(self) -> list[Any]:
        """As it stands in JSON, exactly."""
        return [str(self.total), str(self.weight), self.workers]

    @classmethod
    def from_json(cls, told: list[Any]) -> Self:
        """Reads what `to_json` gave."""
        return cls(Fraction(told[0]), Fraction(told[1]), int(told[2]))


def total_of(pairs: Iterable[tuple[float, float]]) -> Fraction:
    """The sum of the products of pairs of finite numbers, exactly."""
    total, unit = 0, 1  # a whole number of parts, of which so many make one: a power of two
    for one, other in pairs:
        (a, b), (c, d) = one.as_integer_ratio(), other.as_integer_ratio()
        product, parts = a * c, b * d
        if parts > unit:
            total *= parts // unit
            unit = parts
        total += product * (unit // parts)
    return Fraction(total, unit)


Metrics = Mapping[str, MetricSum]
"""Metrics by name."""


def metrics_of(told: Mapping[str, MetricMean], weighting: Weighting) -> Metrics:
    """What one worker tells, as sums; no weight is more than a report may count."""
    return {
        name: MetricSum.of(metric.value, weighting.bounded(metric.weight)) for name, metric in told.items()
    }


def metrics_of_all(told: Sequence[Mapping[str, MetricMean]], weighting: Weighting) -> Metrics:
    """The sum of what several workers tell; see `metrics_of`."""
    pairs: dict[str, list[tuple[float, float]]] = {}
    for metrics in told:
        for name, metric in metrics.items():
            pairs.setdefault(name, []).append((metric.value, weighting.bounded(metric.weight)))
    return {name: MetricSum.of_all(found) for name, found in pairs.items()}


def add_metrics(one: Metrics, other: Metrics) -> Metrics:
    """The sum of two: each metric that is in one of them."""
    return {
        name: one.get(name, MetricSum()) + other.get(name, MetricSum()) for name in sorted({*one, *other})
    }


def told_metrics(metrics: Metrics) -> dict[str, MetricStatus]:
    """The means of all workers, as a history tells them."""
    return {
        name: MetricStatus(value=metric.mean.value, weight=metric.mean.weight, workers=metric.workers)
        for name, metric in metrics.items()
    }


@dataclasses.dataclass(slots=True)
class Measurements:
    """What workers measured who did not train, added up.

    Attributes:
        weighting: how much one of them counts.
        reports: how many there are.
        samples: of which they told.
        metrics: by name.
    """

    weighting: Weighting
    reports: int = 0
    samples: Fraction = Fraction(0)
    metrics: Metrics = dataclasses.field(default_factory=dict)

    def add(self, summary: Summary) -> None:
        """Adds what one worker told."""
        self.reports += 1
        self.samples += Fraction(summary.samples or 0)
        self.metrics = add_metrics(self.metrics, metrics_of(summary.evaluation, self.weighting))
