"""Sums whose bits depend on what is added, and not on its order or on who added it.

A float64 sum rounds with each addition, so its last bits depend on the order. Here each number is cut at
fixed places into pieces, as in Demmel and Nguyen, "Parallel reproducible summation" (IEEE Transactions on
Computers 64, 2015). A piece is a whole multiple of its place's unit, and multiples of one unit add without
rounding. Only what lies below the last place is rounded away, number by number.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import AggregationError
from fedplan.federation.tensors import LARGEST

Float64s = NDArray[np.float64]

_WIDTH = 32
"""Bits from one place to the next."""

PLACES = 3
"""How many places a sum has. It keeps at least 63 bits below the largest number of a tensor."""

_MOST = 1 << 20
"""So many pieces of 32 bits add up within the 53 bits of a float64; before more come, carries are moved."""

_TOPS = range(-28, math.frexp(LARGEST)[1] // _WIDTH)
"""The highest place that a sum may have: units and the numbers that cut at them are then normal float64."""

_BLOCK = 1 << 13
"""Elements that are cut at once: they stay in the processor's cache."""

_TOGETHER = 1 << 15
"""The same of several tensors, where a call of NumPy for each piece of a row would count."""

_ROWS = 1 << 12
"""So many tensors at most are cut at once."""


@dataclasses.dataclass(slots=True)
class ExactSum:
    """A sum of tensors of one shape, with one weight in all elements of each. Sums add: a commutative monoid.

    Attributes:
        top: number of the highest place; the unit of place n is 2 ** (32 n). None for a sum of zeros.
        digits: (places, elements) float64, from the highest place to the lowest; each a whole multiple of its
            place's unit.
        pieces: how many pieces at most were added to a digit since carries were moved.
    """

    top: int | None
    digits: Float64s
    pieces: int = 0

    @classmethod
    def zeros(cls, elements: int) -> Self:
        """The sum of nothing."""
        return cls(None, np.zeros((PLACES, elements)))

    def add(self, values: NDArray[Any], weight: float = 1.0, largest: float | None = None) -> None:
        """Adds a tensor times a weight; the product is rounded to float64.

        Args:
            values: as many finite numbers as the sum has elements, of a dtype that float64 holds.
            weight: finite.
            largest: what `check` returned for the two, if it was asked before.

        Raises:
            AggregationError: a product is too large.
        """
        flat = values.reshape(-1)
        if largest is None:
            largest = self.check(flat, weight)
        if largest == 0.0:
            return
        # the place above is not needed: the largest number is less than half of its unit, and rounds to zero
        self._raise_to(max(math.frexp(largest)[1] // _WIDTH, _TOPS.start))
        self._make_room(1)
        for start in range(0, flat.size, _BLOCK):
            products = np.multiply(flat[None, start : start + _BLOCK], weight, dtype=np.float64)
            self._cut(products, slice(start, start + _BLOCK))

    def add_rows(self, values: NDArray[Any], weights: Float64s, largest: float) -> None:
        """Adds several tensors, each times its weight: the bits are those of `add` for each.

        Args:
            values: (tensors, elements), as for `add`.
            weights: (tensors,).
            largest: what `check_rows` returned for the two.
        """
        if largest == 0.0:
            return
        self._raise_to(max(math.frexp(largest)[1] // _WIDTH, _TOPS.start))
        for first in range(0, len(values), _ROWS):
            rows, factors = values[first : first + _ROWS], weights[first : first + _ROWS, None]
            self._make_room(len(rows))
            width = max(1, _TOGETHER // len(rows))
            for start in range(0, values.shape[1], width):
                products = np.multiply(rows[:, start : start + width], factors, dtype=np.float64)
                self._cut(products, slice(start, start + width))

    @staticmethod
    def check_rows(values: NDArray[Any], weights: Float64s) -> float:
        """The largest magnitude that `add_rows` would add.

        Raises:
            AggregationError: it is too large.
        """
        if not values.size:
            return 0.0
        reach = np.maximum(values.max(1).astype(np.float64), -values.min(1).astype(np.float64))
        return check_largest(float((reach * abs(weights)).max()))

    @staticmethod
    def check(values: NDArray[Any], weight: float = 1.0) -> float:
        """The largest magnitude that `add` would add.

        Raises:
            AggregationError: it is too large.
        """
        if not values.size:
            return 0.0
        return check_largest(max(float(values.max()), -float(values.min())) * abs(weight))

    def merge(self, other: "ExactSum") -> None:
        """Adds another sum to this one, and leaves the other as it is."""
        if other.top is None:
            return
        self._raise_to(other.top)
        self._make_room(other.pieces)
        lower = (self.top or 0) - other.top  # so many places; what is below the lowest is given up
        if lower < PLACES:
            self.digits[lower:] += other.digits[: PLACES - lower]

    def total(self) -> Float64s:
        """The sum, rounded to float64 (to within two steps): (elements,)."""
        if self.top is None:
            return np.zeros(self.digits.shape[1])
        units, made = self._units(), np.empty(self.digits.shape[1])
        for start in range(0, made.size, _BLOCK):
            part = slice(start, start + _BLOCK)
            digits = self.digits[:, part].copy()
            _carry(digits, units, np.floor)  # one form for all ways to have made the sum
            _carry(digits, units, np.rint)  # digits that are small against those above: little is lost
            np.add(digits[2], digits[1], out=made[part])
            made[part] += digits[0]
        return made

    def _cut(self, products: Float64s, part: slice) -> None:
        """Adds the pieces of (tensors, elements) to the digits of these elements; spoils the argument."""
        piece = np.empty_like(products)
        for place, unit in enumerate(self._units()):
            _round_to_multiples(products, unit, out=piece)
            # multiples of the unit add in any order
            self.digits[place, part] += piece[0] if len(piece) == 1 else piece.sum(0)
            if place + 1 < PLACES:
                products -= piece

    def _units(self) -> Sequence[float]:
        top = self.top or 0
        return [2.0 ** (_WIDTH * (top - place)) for place in range(PLACES)]

    def _raise_to(self, top: int | None) -> None:
        """Makes a place the highest one, if it is higher than that of now; the lowest ones are given up."""
        if top is None or (self.top is not None and top <= self.top):
            return
        up = PLACES if self.top is None else min(top - self.top, PLACES)
        if up < PLACES:
            self.digits[up:] = self.digits[:-up].copy()
        self.digits[:up] = 0.0
        self.top = top

    def _make_room(self, pieces: int) -> None:
        if self.pieces + pieces > _MOST:
            _carry(self.digits, self._units(), np.rint)
            self.pieces = 1
        self.pieces += pieces


def check_largest(largest: float) -> float:
    """The largest magnitude of what is to be added.

    Raises:
        AggregationError: it is too large, or no number.
    """
    if not largest < LARGEST:
        raise AggregationError(f"a weighted value reaches {LARGEST:.0e}, and sums could become infinite")
    return largest


def _round_to_multiples(values: Float64s, unit: float, *, out: Float64s) -> None:
    """The nearest multiples of a power of two, for values below 2^51 of them; of two the even one."""
    shift = 1.5 * 2.0**52 * unit
    np.add(values, shift, out=out)
    np.subtract(out, shift, out=out)


def _carry(digits: Float64s, units: Sequence[float], rounded: Any) -> None:
    """Moves what a digit has of the next unit to the place above it; the sum stays what it is."""
    for place in range(PLACES - 1, 0, -1):
        above = digits[place] * (1.0 / units[place - 1])  # a power of two: exact
        rounded(above, out=above)
        above *= units[place - 1]
        digits[place] -= above
        digits[place - 1] += above
