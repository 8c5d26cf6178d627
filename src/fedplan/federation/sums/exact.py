"""Sums whose bits depend on what is added, and not on its order or on who added it.

A float64 sum rounds with each addition, so its last bits depend on the order. Here each number is cut at
fixed places into pieces, as in Demmel and Nguyen, "Parallel reproducible summation" (IEEE Transactions on
Computers 64, 2015). A piece is a whole multiple of its place's unit, and whole numbers add without rounding.
Only what lies below the last place is rounded away, number by number.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import AggregationError
from fedplan.federation.tensors import LARGEST

Float64s = NDArray[np.float64]
Int64s = NDArray[np.int64]

_WIDTH = 50
"""Bits from one place to the next."""

PLACES = 2
"""How many places a sum has. It keeps at least 50 bits below the largest number of a tensor."""

_TOPS = range(-20, 20)
"""The highest place that a sum may have: one is high enough for all numbers below `LARGEST`, and what cuts at
any place is a normal float64."""

_ROOM = 1 << 12
"""So many pieces of 50 bits add up within an int64; before more come, digits give their upper bits away."""

_KEPT = 40
"""Bits that a digit then keeps."""

_BLOCK = 1 << 13
"""Elements that are cut at once: they stay in the processor's cache."""

_TOGETHER = 1 << 15
"""The same of several tensors, where a call of NumPy for each piece of a row would count."""


@dataclasses.dataclass(slots=True)
class ExactSum:
    """A sum of tensors of one shape, with one weight in all elements of each. Sums add: a commutative monoid.

    Attributes:
        top: number of the highest place; the unit of place n is 2 ** (50 n). None for a sum of zeros.
        digits: (places, elements) int64, how many units of each place, from the highest to the lowest.
        upper: as `digits`, in units of 2 ** 40 times the place's: what the digits have given away. None when
            that is nothing.
        pieces: how many pieces at most were added to a digit since it gave something away.
    """

    top: int | None
    digits: Int64s
    upper: Int64s | None = None
    pieces: int = 0
    _shifted: int = 0
    """How often the digits have the bits of the numbers that cut in them, see `_cut`."""

    @classmethod
    def zeros(cls, elements: int) -> Self:
        """The sum of nothing."""
        return cls(None, np.zeros((PLACES, elements), np.int64))

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
        self._raise_to(_top_of(largest))
        self._make_room(1)
        for start in range(0, flat.size, _BLOCK):
            products = np.multiply(flat[None, start : start + _BLOCK], weight, dtype=np.float64)
            self._cut(products, slice(start, start + _BLOCK))
        self._shifted += 1

    def add_rows(self, values: NDArray[Any], weights: Float64s, largest: float) -> None:
        """Adds several tensors, each times its weight: the bits are those of `add` for each.

        Args:
            values: (tensors, elements), as for `add`.
            weights: (tensors,).
            largest: what `check_rows` returned for the two.
        """
        if largest == 0.0:
            return
        self._raise_to(_top_of(largest))
        for first in range(0, len(values), _ROOM):
            rows, factors = values[first : first + _ROOM], weights[first : first + _ROOM, None]
            self._make_room(len(rows))
            width = max(1, _TOGETHER // len(rows))
            for start in range(0, values.shape[1], width):
                products = np.multiply(rows[:, start : start + width], factors, dtype=np.float64)
                self._cut(products, slice(start, start + width))
            self._shifted += len(rows)

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
        """Adds another sum to this one; the other keeps its value."""
        if other.top is None:
            return
        self._raise_to(other.top)
        other.settle()
        self._make_room(other.pieces)
        lower = (self.top or 0) - other.top  # so many places; what is below the lowest is given up
        if lower < PLACES:
            self.digits[lower:] += other.digits[: PLACES - lower]
            if other.upper is not None:
                self._upper()[lower:] += other.upper[: PLACES - lower]

    def total(self, *, last: bool = False) -> Float64s:
        """The sum, rounded to float64 (to within two steps): (elements,).

        Args:
            last: whether the sum is not used any more: then the result takes its memory, and no more.
        """
        elements = self.digits.shape[1]
        if self.top is None:
            return np.zeros(elements)
        self.settle()
        made = self.digits[0].view(np.float64) if last else np.empty(elements)
        for start in range(0, elements, _BLOCK):
            part = slice(start, start + _BLOCK)
            made[part] = self._total_of(part)
        if last:
            del made  # what would be left of it is a part of `digits`, whose rest is given back
            self.digits.resize((1, elements), refcheck=False)
            made = self.digits[0].view(np.float64)
            self.digits, self.upper, self.top = np.zeros((PLACES, 0), np.int64), None, None
        return made

    def settle(self) -> None:
        """Brings the digits into the form in which others may read them."""
        if self._shifted:
            for place, shift in enumerate(self._shifts()):
                self.digits[place] -= _wrapped(self._shifted * _bits_of(shift))
            self._shifted = 0

    def head(self) -> dict[str, Any]:
        """What `read` must know beside `arrays`."""
        return {"top": self.top, "pieces": self.pieces, "upper": self.upper is not None}

    def arrays(self) -> list[Int64s]:
        """The digits, to be written."""
        self.settle()
        return [self.digits] if self.upper is None else [self.digits, self.upper]

    @classmethod
    def read(
        cls, head: Mapping[str, Any], elements: int, take: Callable[[int, type[np.int64]], Int64s]
    ) -> Self:
        """A sum that was written, to be merged: its digits cannot be written to.

        Args:
            head: see `head`.
            elements: how many it has.
            take: gives the next so many numbers of what was written.
        """
        parts = [
            take(PLACES * elements, np.int64).reshape(PLACES, elements) for _ in range(1 + head["upper"])
        ]
        return cls(head["top"], parts[0], parts[1] if head["upper"] else None, head["pieces"])

    def _total_of(self, part: slice) -> Float64s:
        high, low = (digits[part].copy() for digits in self.digits)
        above = np.zeros_like(high)
        if self.upper is not None:
            above += self.upper[0, part]
            more = self.upper[1, part] >> (_WIDTH - _KEPT)
            low += (self.upper[1, part] - (more << (_WIDTH - _KEPT))) << _KEPT
            high += more
        high += _carried(low, _WIDTH)
        above += _carried(high, _KEPT)
        unit = 2.0 ** (_WIDTH * (self.top or 0))
        # whatever way the sum was made, the three are the same now; they overlap in no bit
        made: Float64s = low * (unit * 2.0**-_WIDTH) + high * unit
        made += above * (unit * 2.0**_KEPT)
        return made

    def _cut(self, products: Float64s, part: slice) -> None:
        """Adds the pieces of (tensors, elements) to the digits of these elements; spoils the argument.

        A number plus 1.5 * 2^52 units is rounded to whole units, which its last bits then count. All bits of
        the sum, read as an integer, are those of the number that was added, plus this count.
        """
        cut = np.empty_like(products)
        for place, shift in enumerate(self._shifts()):
            np.add(products, shift, out=cut)
            bits = cut.view(np.int64)
            self.digits[place, part] += bits[0] if len(bits) == 1 else bits.sum(0)
            if place + 1 < PLACES:
                cut -= shift
                products -= cut

    def _shifts(self) -> list[float]:
        """The numbers that cut at each place."""
        top = self.top or 0
        return [1.5 * 2.0 ** (52 + _WIDTH * (top - place)) for place in range(PLACES)]

    def _raise_to(self, top: int) -> None:
        """Makes a place the highest one, if it is higher than that of now; the lowest ones are given up."""
        if self.top is not None and top <= self.top:
            return
        self.settle()
        up = PLACES if self.top is None else min(top - self.top, PLACES)
        for digits in (self.digits, self.upper):
            if digits is not None:
                digits[up:] = digits[: PLACES - up].copy()
                digits[:up] = 0
        self.top = top

    def _make_room(self, pieces: int) -> None:
        if self.pieces + pieces > _ROOM:
            self.settle()
            self._upper()[:] += _carried(self.digits, _KEPT)
            self.pieces = 1
        self.pieces += pieces

    def _upper(self) -> Int64s:
        if self.upper is None:
            self.upper = np.zeros_like(self.digits)
        return self.upper


def _top_of(largest: float) -> int:
    """The lowest place of whose next one `largest` is less than half a unit: there it rounds to zero."""
    return max(-((_WIDTH - 1 - math.frexp(largest)[1]) // _WIDTH), _TOPS.start)


def check_largest(largest: float) -> float:
    """The largest magnitude of what is to be added.

    Raises:
        AggregationError: it is too large, or no number.
    """
    if not largest < LARGEST:
        raise AggregationError(f"a weighted value reaches {LARGEST:.0e}, and sums could become infinite")
    return largest


def _carried(digits: Int64s, bits: int) -> Int64s:
    """Takes from the digits what they have beyond so many bits: how many times 2 ** bits."""
    more = (digits + (1 << (bits - 1))) >> bits
    digits -= more << bits
    return more


def _bits_of(number: float) -> int:
    return int(np.float64(number).view(np.int64))


def _wrapped(number: int) -> np.int64:
    """A whole number as int64 arithmetic has it, modulo 2 ** 64."""
    return np.uint64(number % (1 << 64)).view(np.int64)
