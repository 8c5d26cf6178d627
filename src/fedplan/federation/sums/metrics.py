"""Metrics of many workers, added up exactly."""

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Self

from fedplan.federation.update import Weighting
from fedplan.wire import MetricMean, Summary
from fedplan.wire.messages import MetricStatus

TRAINING = "training_"
"""How the names of metrics begin that workers measured while they trained."""

MOST_UNKNOWN = 20
"""So many names are kept of what workers tell whose Plans do not say what they measure."""


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
    total, unit = 0, 1  # the sum is total / unit, and unit is a power of two
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


def metrics_of_all(told: Sequence[Mapping[str, MetricMean]], weighting: Weighting) -> Metrics:
    """The sum of what several workers tell; no weight is more than a report may count."""
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


@dataclasses.dataclass(frozen=True, slots=True)
class MetricNames:
    """Which metrics of workers are kept, by the names that a history has for them.

    Attributes:
        known: what the model's Plans measure. None where they do not say what they return: then workers do,
            and of what they tell some names are kept.
        wanted: names that are kept then in any case.
        own: the grid's own metrics, which no worker tells.
    """

    known: frozenset[str] | None = None
    wanted: frozenset[str] = frozenset()
    own: frozenset[str] = frozenset()

    def told(self, summary: Summary) -> dict[str, MetricMean]:
        """What a worker tells, without what it cannot have measured."""
        found = {TRAINING + name: metric for name, metric in summary.metrics.items()}
        for name, metric in summary.evaluation.items():
            if not name.startswith(TRAINING):
                found[name] = metric
        return {name: metric for name, metric in found.items() if self._may_be_told(name)}

    def excess(self, names: Collection[str]) -> Sequence[str]:
        """Those names of a sum that are too many: all but the first ones in the alphabet.

        So what a sum keeps does not depend on the order in which reports come: a name that stays in the sum
        of all reports is not too much in the sum of some of them.
        """
        if self.known is not None or len(names) <= MOST_UNKNOWN:
            return ()
        return sorted(name for name in names if name not in self.wanted)[MOST_UNKNOWN:]

    def _may_be_told(self, name: str) -> bool:
        return name not in self.own and (self.known is None or name in self.known)


ANY_NAMES = MetricNames()
"""Of a model of whose Plans nothing is known."""


class MetricTotals:
    """What workers tell, added up: a commutative monoid.

    Args:
        names: which metrics are kept.
    """

    def __init__(self, names: MetricNames) -> None:
        self._names = names
        self._sums: dict[str, MetricSum] = {}

    @property
    def metrics(self) -> Metrics:
        """The sums, in the order of their names."""
        return dict(sorted(self._sums.items()))

    def add(self, more: Metrics) -> None:
        """Adds the metrics of some workers."""
        for name, metric in more.items():
            known = self._sums.get(name)
            self._sums[name] = metric if known is None else known + metric
        for name in self._names.excess(self._sums):
            del self._sums[name]


class Measurements:
    """What workers measured who did not train, added up.

    Attributes:
        reports: how many there are.
        samples: of which they told.

    Args:
        weighting: how much one of them counts.
        names: which metrics are kept.
    """

    def __init__(self, weighting: Weighting, names: MetricNames = ANY_NAMES) -> None:
        self.reports = 0
        self.samples = Fraction(0)
        self._weighting = weighting
        self._names = names
        self._totals = MetricTotals(names)

    @property
    def metrics(self) -> Metrics:
        """By name."""
        return self._totals.metrics

    def add(self, summary: Summary) -> None:
        """Adds what one worker told."""
        self.reports += 1
        self.samples += Fraction(summary.samples or 0)
        told = self._names.told(Summary(evaluation=summary.evaluation))
        self._totals.add(metrics_of_all([told], self._weighting))
