"""Clipping: what bounds how much one worker can change of a model."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from fedplan.errors import AggregationError

Clipping = Literal["fixed", "per_layer"]


@dataclasses.dataclass(frozen=True, slots=True)
class Clip:
    """The largest norm that a report may have.

    Attributes:
        norm: of all trained tensors together.
        per_layer: whether each tensor is bounded by itself, to norm / √(number of tensors). Then the norm of
            all of them together is bounded by the same number.
    """

    norm: float
    per_layer: bool = False

    def factors(self, norms: Sequence[float], most: float | None = None) -> list[float]:
        """By what each tensor is multiplied, in [0, 1].

        Args:
            norms: of the tensors.
            most: a smaller bound than `norm`.

        Raises:
            AggregationError: a norm is not finite.
        """
        if not all(map(math.isfinite, norms)):
            raise AggregationError("a report with a value that is not finite cannot be clipped")
        bound = self.norm if most is None else most
        if self.per_layer:
            own = bound / math.sqrt(max(len(norms), 1))
            return [_factor(norm, own) for norm in norms]
        return [_factor(math.hypot(*norms), bound)] * len(norms)


def clipped_values(values: Sequence[Any], clip: Clip, most: float | None = None) -> list[Any]:
    """Arrays scaled down to a clip, as float64; those that are within it keep their values.

    Args:
        values: NumPy arrays.
        clip: the clip.
        most: see `Clip.factors`.

    Raises:
        AggregationError: a value is not finite.
    """
    wide = [np.asarray(array, np.float64) for array in values]
    factors = clip.factors([_norm(array) for array in wide], most)
    return [array * factor for array, factor in zip(wide, factors, strict=True)]


def _factor(norm: float, bound: float) -> float:
    return 1.0 if norm <= bound else bound / norm


def _norm(array: Any) -> float:
    """The Euclidean norm, also where a square would be infinite."""
    largest = float(np.max(np.abs(array), initial=0.0))
    if largest == 0.0 or not math.isfinite(largest):
        return largest
    exponent = math.frexp(largest)[1]
    scaled = np.ldexp(array, -exponent).reshape(-1)  # a power of two rounds nothing
    return math.ldexp(math.sqrt(float(np.dot(scaled, scaled))), exponent)
