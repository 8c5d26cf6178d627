"""The sum of updates, from which their weighted average comes."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.sums.exact import PLACES, ExactSum
from fedplan.federation.sums.framing import Arrays, framed, unframed
from fedplan.federation.sums.metrics import (
    Metrics,
    MetricSum,
    add_metrics,
    metrics_of,
    metrics_of_all,
    total_of,
)
from fedplan.federation.tensors import Float64s, Layout, to_float64, values_of
from fedplan.federation.update import UNCHANGED, UNIFORM, Contribution, Update, UpdateBlock, Weighting
from fedplan.plan.signature import Role
from fedplan.wire import MetricMean, Summary
from fedplan.wire.scalars import Buffer

BYTES_PER_ELEMENT = 24
"""Of a sum, for each number of the model; twice as many when only some workers tell their weight."""

_FORMAT = 1
"""Of a sum that is written."""

TRAINING = "training_"
"""How the names of metrics begin that workers measured while they trained."""


@dataclasses.dataclass(frozen=True, slots=True)
class Average:
    """The weighted average of a cycle's updates.

    Attributes:
        tensors: of the diffs, each in its shape, as float64. Of counters the least diff: the largest counter.
        numbers: by name, the average of what `Contribution.numbers` holds.
        reports: how many updates are in it.
        samples: how many samples their workers told of, in all.
        metrics: by name, each metric's mean over samples.
    """

    tensors: tuple[Float64s, ...]
    numbers: Mapping[str, float]
    reports: int
    samples: float
    metrics: Mapping[str, MetricMean]


_BOUNDED = (Role.COUNTER, Role.AVERAGED)
"""Of a running statistic the average lies exactly between the least and the most: no variance becomes
negative because it stands beside one that is 2^60 times as large."""


class _Bounds(NamedTuple):
    """The least and the most of each number of a tensor."""

    least: Float64s
    most: Float64s


@dataclasses.dataclass(slots=True)
class _Weighted:
    """Σ weight × what is averaged, and Σ weight."""

    tensors: list[ExactSum]
    weight: Fraction = Fraction(0)
    count: int = 0
    numbers: dict[str, Fraction] = dataclasses.field(default_factory=dict)

    @classmethod
    def zeros(cls, sizes: Sequence[int]) -> Self:
        return cls([ExactSum.zeros(size) for size in sizes])

    def merge(self, other: "_Weighted") -> None:
        for mine, theirs in zip(self.tensors, other.tensors, strict=True):
            mine.merge(theirs)
        self.weight += other.weight
        self.count += other.count
        for name, number in other.numbers.items():
            self.numbers[name] = self.numbers.get(name, Fraction(0)) + number


def _measured(summary: Summary, contribution: Contribution) -> dict[str, MetricMean]:
    """What a worker, and the grid of its update, measured."""
    return {
        **{TRAINING + name: metric for name, metric in summary.metrics.items()},
        **summary.evaluation,
        **contribution.metrics,
    }


class Sums:
    """A sum of updates: a commutative monoid.

    Two sums of the same updates give the same bits, in whatever order the updates came, and whatever parts
    were added up elsewhere and merged. Memory does not grow with the number of updates.

    Updates whose weight is known are added with it. The others are added in a second sum, and count as the
    mean of the known weights when the average is made; that mean is not known before.

    Attributes:
        layout: of the tensors of an update.
        count: how many updates are in it.
        metrics: what their workers, and the grid, measured.

    Args:
        layout: of the tensors of an update.
        roles: of the same tensors. Counters have no average, but a least diff.
        weighting: how much an update counts.
        skipped: places of tensors that are not added up, for something else combines them: their average is
            zero.
    """

    def __init__(
        self,
        layout: Layout,
        roles: Sequence[Role],
        weighting: Weighting = UNIFORM,
        skipped: Collection[int] = (),
    ) -> None:
        self.layout = layout
        self.count = 0
        self._roles = tuple(roles)
        self._weighting = weighting
        self._skipped = skipped
        self._sizes = [
            0 if role is Role.COUNTER or place in skipped else math.prod(shape)
            for place, ((shape, _), role) in enumerate(zip(layout, roles, strict=True))
        ]
        self._told = _Weighted.zeros(self._sizes)
        self._untold: _Weighted | None = None
        self._bounds: list[_Bounds | None] = [None] * len(layout)
        self._samples = Fraction(0)
        self.metrics: Metrics = {}

    def add(self, update: Update, contribution: Contribution = UNCHANGED) -> None:
        """Adds an update.

        Args:
            update: its tensors fit the layout, and are finite.
            contribution: what the strategy makes of it.

        Raises:
            AggregationError: a number is too large to be added up; then the sum is as it was.
        """
        summary = update.summary
        weight = self._weighting.weight(summary)
        factor = 1.0 if weight is None else weight
        scales = [factor * contribution.factor if role is Role.TRAINED else factor for role in self._roles]
        largest = {  # of all, before anything is added
            place: ExactSum.check(values_of(update.tensors[place]), scales[place])
            for place, size in enumerate(self._sizes)
            if size
        }
        part = self._part(weight)
        for place, (total, role) in enumerate(zip(part.tensors, self._roles, strict=True)):
            if place in largest:
                total.add(values_of(update.tensors[place]), scales[place], largest[place])
            if role in _BOUNDED:
                values = to_float64(update.tensors[place])
                self._widen(place, _Bounds(values, values))
        part.weight += Fraction(factor)
        part.count += 1
        for name, number in contribution.numbers.items():
            part.numbers[name] = part.numbers.get(name, Fraction(0)) + Fraction(factor) * Fraction(number)
        self.count += 1
        self._samples += Fraction(summary.samples or 0)
        measured = _measured(summary, contribution)
        self.metrics = add_metrics(self.metrics, metrics_of(measured, self._weighting))

    def add_block(self, block: UpdateBlock, contributions: Sequence[Contribution]) -> None:
        """Adds several updates: the bits are those of `add` for each.

        Args:
            block: the updates; either all of them tell their weight, or none does.
            contributions: what the strategy makes of each.

        Raises:
            AggregationError: a number is too large to be added up, or only some tell their weight; then the
                sum is as it was.
        """
        weights = [self._weighting.weight(summary) for summary in block.summaries]
        if len({weight is None for weight in weights}) != 1:
            raise AggregationError("only some of these updates tell how much they count: add each by itself")
        factors = [1.0 if weight is None else weight for weight in weights]
        plain = np.array(factors, np.float64)
        trained = np.array([f * c.factor for f, c in zip(factors, contributions, strict=True)], np.float64)
        rows = {
            place: values_of(block.tensors[place]).reshape(len(block), size)
            for place, size in enumerate(self._sizes)
            if size
        }
        scales = [trained if role is Role.TRAINED else plain for role in self._roles]
        largest = {place: ExactSum.check_rows(values, scales[place]) for place, values in rows.items()}
        part = self._part(weights[0])
        for place, (total, role) in enumerate(zip(part.tensors, self._roles, strict=True)):
            if place in rows:
                total.add_rows(rows[place], scales[place], largest[place])
            if role in _BOUNDED:
                values = to_float64(block.tensors[place])
                least, most = np.asarray(values.min(0)), np.asarray(values.max(0))
                self._widen(place, _Bounds(least, most))
        part.weight += total_of((factor, 1.0) for factor in factors)
        part.count += len(block)
        for name in sorted({name for contribution in contributions for name in contribution.numbers}):
            told = zip(factors, contributions, strict=True)
            more = total_of((f, c.numbers[name]) for f, c in told if name in c.numbers)
            part.numbers[name] = part.numbers.get(name, Fraction(0)) + more
        self.count += len(block)
        self._samples += total_of((summary.samples or 0.0, 1.0) for summary in block.summaries)
        measured = [_measured(s, c) for s, c in zip(block.summaries, contributions, strict=True)]
        self.metrics = add_metrics(self.metrics, metrics_of_all(measured, self._weighting))

    def merge(self, other: "Sums") -> None:
        """Adds another sum to this one; the other keeps its value. Its arrays may be written over later."""
        self._told.merge(other._told)
        if other._untold is not None:
            self._part(None).merge(other._untold)
        for place, bounds in enumerate(other._bounds):
            if bounds is not None:
                self._widen(place, _Bounds(*map(np.copy, bounds)))
        self.count += other.count
        self._samples += other._samples
        self.metrics = add_metrics(self.metrics, other.metrics)

    def average(self) -> Average:
        """The weighted average.

        Raises:
            AggregationError: there is no update.
        """
        if not self.count:
            raise AggregationError("there is no diff to average")
        told, untold = self._told, self._untold
        each = told.weight / told.count if told.count else Fraction(1)  # what an untold weight is taken for
        whole = told.weight + (each * untold.count if untold else 0)
        tensors = tuple(
            self._tensor(place, shape, float(each), float(whole))
            for place, (shape, _) in enumerate(self.layout)
        )
        numbers = {
            name: float(
                (told.numbers.get(name, 0) + (each * untold.numbers.get(name, 0) if untold else 0)) / whole
            )
            for name in sorted({*told.numbers, *(untold.numbers if untold else ())})
        }
        means = {name: metric.mean for name, metric in self.metrics.items()}
        return Average(tensors, numbers, self.count, float(self._samples), means)

    def serialize(self) -> bytes:
        """The sum as bytes, for another process to merge: a head in JSON, then arrays of float64."""
        arrays: list[Float64s] = []
        head: dict[str, Any] = {
            "format": _FORMAT,
            "count": self.count,
            "samples": str(self._samples),
            "metrics": {name: metric.to_json() for name, metric in self.metrics.items()},
            "bounds": [place for place, bounds in enumerate(self._bounds) if bounds is not None],
        }
        for name, part in (("told", self._told), ("untold", self._untold)):
            if part is not None and part.count:
                head[name] = {
                    "weight": str(part.weight),
                    "count": part.count,
                    "numbers": {key: str(number) for key, number in part.numbers.items()},
                    "tops": [total.top for total in part.tensors],
                    "pieces": [total.pieces for total in part.tensors],
                }
                arrays += [total.digits for total in part.tensors]
        arrays += [array for bounds in self._bounds if bounds is not None for array in bounds]
        return b"".join([framed(head), *(np.ascontiguousarray(array).data for array in arrays)])

    def merge_bytes(self, data: Buffer) -> None:
        """Adds a sum that another process of the same grid has written with `serialize`.

        Raises:
            AggregationError: it is of another form, or of another model; then nothing is added.
        """
        head, left = unframed(data)
        if head.get("format") != _FORMAT:
            raise AggregationError("the sum was written by another version of fedplan")
        other = Sums(self.layout, self._roles, self._weighting, self._skipped)
        arrays = Arrays(left)
        for name in ("told", "untold"):
            if name in head:
                setattr(other, f"_{name}", _read_part(head[name], self._sizes, arrays))
        for place in head["bounds"]:
            shape, _ = self.layout[place]
            least, most = (arrays.take(math.prod(shape)).reshape(shape).copy() for _ in _Bounds._fields)
            other._bounds[place] = _Bounds(least, most)
        arrays.end()
        other.count = head["count"]
        other._samples = Fraction(head["samples"])
        other.metrics = {name: MetricSum.from_json(told) for name, told in head["metrics"].items()}
        self.merge(other)

    def _part(self, weight: float | None) -> _Weighted:
        if weight is not None:
            return self._told
        if self._untold is None:
            self._untold = _Weighted.zeros(self._sizes)
        return self._untold

    def _widen(self, place: int, more: "_Bounds") -> None:
        known = self._bounds[place]
        if known is not None:
            more = _Bounds(np.minimum(known.least, more.least), np.maximum(known.most, more.most))
        self._bounds[place] = more

    def _tensor(self, place: int, shape: tuple[int, ...], each: float, whole: float) -> Float64s:
        bounds = self._bounds[place]
        if bounds is not None and self._roles[place] is Role.COUNTER:
            return bounds.least
        if not self._sizes[place]:
            return np.zeros(shape)
        total = self._told.tensors[place].total()
        if self._untold is not None:
            total += each * self._untold.tensors[place].total()
        total /= whole
        average = total.reshape(shape)
        return average if bounds is None else np.clip(average, bounds.least, bounds.most)


def _read_part(head: Mapping[str, Any], sizes: Sequence[int], arrays: Arrays) -> _Weighted:
    if len(head["tops"]) != len(sizes):
        raise AggregationError(f"the sum is of another model: of {len(head['tops'])} tensors")
    totals = [
        ExactSum(top, arrays.take(PLACES * size).reshape(PLACES, size), pieces)
        for size, top, pieces in zip(sizes, head["tops"], head["pieces"], strict=True)
    ]
    numbers = {key: Fraction(number) for key, number in head["numbers"].items()}
    return _Weighted(totals, Fraction(head["weight"]), head["count"], numbers)
