"""Numbers that are added up beside the vector, in a ring of their own: counts, weights, metrics.

As coordinates of the vector they would overflow: ten workers of 600 samples exceed 2^12.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import SecureAggregationError

WORKERS = "workers"
"""The first figure: each report counts 1, so the sum shows that it is the sum of those who reported."""

WEIGHT = "weight"
"""The second figure: how much a report counts."""

_RING_BITS = 64

_MOST_FRACTION_BITS = 40


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """A number that each worker reports, in fixed point modulo 2^64.

    Attributes:
        name: what it is.
        fraction_bits: one step is 2^−fraction_bits.
        most: its largest magnitude.
    """

    name: str
    fraction_bits: int
    most: float

    def fault(self, workers: int) -> str | None:
        """Why so many workers' numbers cannot be added up; None where they can."""
        if not 0 <= self.fraction_bits <= _MOST_FRACTION_BITS:
            return f"the figure '{self.name}' has 0 to {_MOST_FRACTION_BITS} bits behind the point"
        if not 0 < self.most < 2.0**_RING_BITS:
            return f"the figure '{self.name}' needs a largest magnitude over 0 and below 2^{_RING_BITS}"
        if workers * (math.ldexp(self.most, self.fraction_bits) + 1) >= 2.0 ** (_RING_BITS - 1):
            return f"the sum of the figure '{self.name}' may be too large for {_RING_BITS} bits"
        return None

    def encoded(self, value: float) -> int:
        """A worker's number as a whole one: rounded to the nearest step, ties to even.

        Raises:
            SecureAggregationError: it is not finite, or larger than it may be.
        """
        if not abs(value) <= self.most:
            raise SecureAggregationError(
                f"'{self.name}' is {value}, and a secure round adds up numbers from −{self.most:g} to "
                f"{self.most:g}: a larger one might make the sum wrong without a sign of it"
            )
        return round(math.ldexp(value, self.fraction_bits))

    def decoded(self, total: int) -> float:
        """The real number that a whole one, or a sum of them, stands for."""
        return math.ldexp(total, -self.fraction_bits)

    def may_be(self, total: int, reports: int) -> bool:
        """Whether so many reports can have this sum."""
        return abs(total) <= reports * (math.ldexp(self.most, self.fraction_bits) + 1)


def usual_figures(workers: int, most_weight: float, metrics: Mapping[str, float]) -> tuple[Figure, ...]:
    """The figures of a round: workers, weight, and two for each metric, its weighted value and its weight.

    Args:
        workers: how many there may be.
        most_weight: no report counts more.
        metrics: for each metric, the largest magnitude of its value.
    """
    figures = [_fitting(WEIGHT, most_weight, workers)]
    for name, most in metrics.items():
        total, weight = names_of_metric(name)
        figures.append(_fitting(total, most * most_weight, workers))
        figures.append(_fitting(weight, most_weight, workers))
    return (Figure(WORKERS, 0, 1.0), *figures)


_WEIGHT_OF = "weight of "


def names_of_metric(name: str) -> tuple[str, str]:
    """The figures of a metric: that of its weighted value, and that of its weight."""
    return f"{name} × weight", f"{_WEIGHT_OF}{name}"


def metrics_among(figures: Sequence[str]) -> list[str]:
    """The metrics of whose values and weights the figures of a round are, by the figures' names."""
    return [name.removeprefix(_WEIGHT_OF) for name in figures[3::2]]


def to_ring(values: Sequence[int]) -> NDArray[np.uint64]:
    """Whole numbers modulo 2^64."""
    return np.array([value % (1 << _RING_BITS) for value in values], "<u8")


def from_ring(residues: NDArray[np.uint64]) -> tuple[int, ...]:
    """The whole numbers from −2^63 to 2^63 − 1 that residues stand for."""
    return tuple(residues.astype("<u8").view("<i8").tolist())


def _fitting(name: str, most: float, workers: int) -> Figure:
    """A figure with as many bits behind the point as its sum leaves room for, and no more than 32."""
    room = _RING_BITS - 2 - max(math.frexp(most)[1], 0) - workers.bit_length()
    return Figure(name, max(min(room, 32), 0), most)
