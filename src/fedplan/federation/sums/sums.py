"""The sum of updates, from which their weighted average comes."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from fractions import Fraction
from typing import Any, NamedTuple, Self

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.sums.beside import Beside
from fedplan.federation.sums.exact import ExactSum, check_largest
from fedplan.federation.sums.framing import Arrays, Numbers, framed, unframed
from fedplan.federation.sums.metrics import (
    ANY_NAMES,
    MetricNames,
    Metrics,
    MetricSum,
    MetricTotals,
    add_metrics,
)
from fedplan.federation.tensors import Float64s, Layout, reach_of, to_float64, values_of
from fedplan.federation.update import UNCHANGED, UNIFORM, Contribution, Update, UpdateBlock, Weighting
from fedplan.plan.signature import Role
from fedplan.wire import MetricMean, Summary
from fedplan.wire.scalars import Buffer

BYTES_PER_ELEMENT = 16
"""Of a sum, for each number of the model, in each of its `Sums.parts`; twice as many with more than 4,096
updates."""

_FORMAT = 3
"""Of a sum that is written."""


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


class Sums:
    """A sum of updates: a commutative monoid.

    Two sums of the same updates give the same bits, in whatever order the updates came, and whatever parts
    were added up elsewhere and merged. Memory does not grow with the number of updates.

    Updates whose weight is known are added with it. The others are added in a second sum, and count as the
    mean of the known weights when the average is made; that mean is not known before.

    Attributes:
        layout: of the tensors of an update.
        count: how many updates are in it.
        spent: whether its last average was made.

    Args:
        layout: of the tensors of an update.
        roles: of the same tensors. Counters have no average, but a least diff.
        weighting: how much an update counts.
        skipped: places of tensors that are not added up, for something else combines them: their average is
            zero.
        kept: which metrics of workers are.
    """

    def __init__(
        self,
        layout: Layout,
        roles: Sequence[Role],
        weighting: Weighting = UNIFORM,
        skipped: Collection[int] = (),
        kept: MetricNames = ANY_NAMES,
    ) -> None:
        self.layout = layout
        self.count = 0
        self.spent = False
        self._roles = tuple(roles)
        self._weighting = weighting
        self._skipped = skipped
        self._kept = kept
        self._sizes = [
            0 if role is Role.COUNTER or place in skipped else math.prod(shape)
            for place, ((shape, _), role) in enumerate(zip(layout, roles, strict=True))
        ]
        self._told: _Weighted | None = None
        self._untold: _Weighted | None = None
        self._bounds: list[_Bounds | None] = [None] * len(layout)
        self._samples = Fraction(0)
        self._metrics = MetricTotals(kept)
        self._own: Metrics = {}

    @property
    def metrics(self) -> Metrics:
        """What the workers of the updates, and the grid, measured, in the order of the names."""
        return dict(sorted({**self._metrics.metrics, **self._own}.items()))

    @property
    def parts(self) -> int:
        """How many sums of tensors there are: of updates that tell their weight, and of the others."""
        return (self._told is not None) + (self._untold is not None)

    def parts_with(self, summary: Summary) -> int:
        """How many parts there are once an update is added whose worker tells this."""
        told = self._weighting.weight(summary) is not None
        return (told or self._told is not None) + (not told or self._untold is not None)

    def check(self, update: Update, contribution: Contribution = UNCHANGED) -> None:
        """Sees whether an update can be added, whatever other updates are in the sum, and changes nothing.

        Args:
            update: see `add`.
            contribution: see `add`.

        Raises:
            AggregationError: a number is too large to be added up, or not finite.
        """
        self._prepared(update, contribution)

    def add(self, update: Update, contribution: Contribution = UNCHANGED) -> None:
        """Adds an update.

        Args:
            update: its tensors fit the layout, and are finite.
            contribution: what the strategy makes of it.

        Raises:
            AggregationError: a number is too large to be added up, or not finite; then the sum is as it was.
        """
        scales, largest, beside = self._prepared(update, contribution)
        part = self._part(told=self._weighting.weight(update.summary) is not None)
        for place, (total, role) in enumerate(zip(part.tensors, self._roles, strict=True)):
            if place in largest:
                total.add(values_of(update.tensors[place]), scales[place], largest[place])
            if role in _BOUNDED:
                values = to_float64(update.tensors[place])
                self._widen(place, _Bounds(values, values))
        self._add_beside(part, beside, 1)

    def _prepared(
        self, update: Update, contribution: Contribution
    ) -> tuple[Sequence[float], Mapping[int, float], Beside]:
        """By what each tensor is multiplied, how large those become that are added up, and what else is."""
        weight = self._weighting.weight(update.summary)
        factor = 1.0 if weight is None else weight
        scales = [factor * contribution.factor if role is Role.TRAINED else factor for role in self._roles]
        reach = reach_of(update.tensors) if update.reach is None else update.reach
        largest = {
            place: check_largest(reach[place] * abs(scales[place]))
            for place, size in enumerate(self._sizes)
            if size
        }
        if weight is None:  # it counts as what others will have told
            check_largest(self._weighting.largest * max(largest.values(), default=0.0))
        return (
            scales,
            largest,
            Beside.of([factor], [update.counted], [contribution], self._weighting, self._kept),
        )

    def add_block(self, block: UpdateBlock, contributions: Sequence[Contribution]) -> None:
        """Adds several updates: the bits are those of `add` for each.

        Args:
            block: the updates; either all of them tell their weight, or none does.
            contributions: what the strategy makes of each.

        Raises:
            AggregationError: a number is too large to be added up, or not finite, or only some tell their
                weight; then the sum is as it was.
        """
        weights = [self._weighting.weight(summary) for summary in block.summaries]
        if len({weight is None for weight in weights}) != 1:
            raise AggregationError("only some of these updates tell how much they count: add each by itself")
        told = weights[0] is not None
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
        if not told:
            check_largest(self._weighting.largest * max(largest.values(), default=0.0))
        beside = Beside.of(factors, block.counted, contributions, self._weighting, self._kept)
        part = self._part(told=told)
        for place, (total, role) in enumerate(zip(part.tensors, self._roles, strict=True)):
            if place in rows:
                total.add_rows(rows[place], scales[place], largest[place])
            if role in _BOUNDED:
                values = to_float64(block.tensors[place])
                least, most = np.asarray(values.min(0)), np.asarray(values.max(0))
                self._widen(place, _Bounds(least, most))
        self._add_beside(part, beside, len(block))

    def _add_beside(self, part: _Weighted, beside: Beside, count: int) -> None:
        part.weight += beside.weight
        part.count += count
        for name, number in beside.numbers.items():
            part.numbers[name] = part.numbers.get(name, Fraction(0)) + number
        self.count += count
        self._samples += beside.samples
        self._metrics.add(beside.told)
        self._own = add_metrics(self._own, beside.own)

    def merge(self, other: "Sums") -> None:
        """Adds another sum to this one; the other keeps its value. Its arrays may be written over later."""
        for told, part in ((True, other._told), (False, other._untold)):
            if part is not None:
                self._part(told=told).merge(part)
        for place, bounds in enumerate(other._bounds):
            if bounds is not None:
                self._widen(place, _Bounds(*map(np.copy, bounds)))
        self.count += other.count
        self._samples += other._samples
        self._metrics.add(other._metrics.metrics)
        self._own = add_metrics(self._own, other._own)

    def average(self, *, last: bool = False) -> Average:
        """The weighted average.

        Args:
            last: whether the sum is not used any more: then its memory is used for the average.

        Raises:
            AggregationError: there is no update.
        """
        if not self.count:
            raise AggregationError("there is no diff to average")
        self.spent = last
        told, untold = self._told, self._untold
        each = told.weight / told.count if told else Fraction(1)  # what an untold weight is taken for
        parts = [(scale, part) for scale, part in ((Fraction(1), told), (each, untold)) if part is not None]
        whole = sum((scale * part.weight for scale, part in parts), Fraction(0))
        tensors = tuple(
            self._tensor(place, shape, parts, float(whole), last=last)
            for place, (shape, _) in enumerate(self.layout)
        )
        numbers = {
            name: float(sum(scale * part.numbers.get(name, Fraction(0)) for scale, part in parts) / whole)
            for name in sorted({name for _, part in parts for name in part.numbers})
        }
        means = {name: metric.mean for name, metric in self.metrics.items()}
        return Average(tensors, numbers, self.count, float(self._samples), means)

    def serialize(self) -> bytes:
        """The sum as bytes, for another process to merge: a head in JSON, then arrays."""
        arrays: list[Numbers] = []
        head: dict[str, Any] = {
            "format": _FORMAT,
            "count": self.count,
            "samples": str(self._samples),
            "metrics": {name: metric.to_json() for name, metric in self._metrics.metrics.items()},
            "own": {name: metric.to_json() for name, metric in self._own.items()},
            "bounds": [place for place, bounds in enumerate(self._bounds) if bounds is not None],
        }
        for name, part in (("told", self._told), ("untold", self._untold)):
            if part is not None and part.count:
                head[name] = {
                    "weight": str(part.weight),
                    "count": part.count,
                    "numbers": {key: str(number) for key, number in part.numbers.items()},
                    "tensors": [total.head() for total in part.tensors],
                }
                arrays += [array for total in part.tensors for array in total.arrays()]
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
        other = Sums(self.layout, self._roles, self._weighting, self._skipped, self._kept)
        arrays = Arrays(left)
        for name in ("told", "untold"):
            if name in head:
                setattr(other, f"_{name}", _read_part(head[name], self._sizes, arrays))
        for place in head["bounds"]:
            shape, _ = self.layout[place]
            least, most = (
                arrays.take(math.prod(shape), np.float64).reshape(shape).copy() for _ in _Bounds._fields
            )
            other._bounds[place] = _Bounds(least, most)
        arrays.end()
        other.count = head["count"]
        other._samples = Fraction(head["samples"])
        other._metrics.add({name: MetricSum.from_json(told) for name, told in head["metrics"].items()})
        other._own = {name: MetricSum.from_json(told) for name, told in head["own"].items()}
        self.merge(other)

    def _part(self, *, told: bool) -> _Weighted:
        """The sum of the updates whose weight is told, or of the others; it is made when it is needed."""
        found = self._told if told else self._untold
        if found is None:
            found = _Weighted.zeros(self._sizes)
            if told:
                self._told = found
            else:
                self._untold = found
        return found

    def _widen(self, place: int, more: "_Bounds") -> None:
        known = self._bounds[place]
        if known is not None:
            more = _Bounds(np.minimum(known.least, more.least), np.maximum(known.most, more.most))
        self._bounds[place] = more

    def _tensor(
        self,
        place: int,
        shape: tuple[int, ...],
        parts: Sequence[tuple[Fraction, _Weighted]],
        whole: float,
        *,
        last: bool,
    ) -> Float64s:
        bounds = self._bounds[place]
        if bounds is not None and self._roles[place] is Role.COUNTER:
            return bounds.least
        if not self._sizes[place]:
            return np.zeros(shape)
        (_, first), *others = parts  # the first one counts as it is
        total = first.tensors[place].total(last=last)
        for scale, part in others:
            total += float(scale) * part.tensors[place].total(last=last)
        total /= whole
        average = total.reshape(shape)
        return average if bounds is None else np.clip(average, bounds.least, bounds.most)


def _read_part(head: Mapping[str, Any], sizes: Sequence[int], arrays: Arrays) -> _Weighted:
    if len(head["tensors"]) != len(sizes):
        raise AggregationError(f"the sum is of another model: of {len(head['tensors'])} tensors")
    totals = [
        ExactSum.read(told, size, arrays.take) for size, told in zip(sizes, head["tensors"], strict=True)
    ]
    numbers = {key: Fraction(number) for key, number in head["numbers"].items()}
    return _Weighted(totals, Fraction(head["weight"]), head["count"], numbers)
