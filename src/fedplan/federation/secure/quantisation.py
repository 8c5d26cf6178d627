"""Real numbers as small whole ones: scaled by a power of two, clipped and rounded without bias."""

import dataclasses
import math

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure.streams import keystream
from fedplan.federation.tensors import Float64s

MOST_VALUE_BITS = 24
"""A value has no more bits, so that float64 adds what is drawn for its rounding to it."""

MOST_EXPONENT = 500
"""The largest magnitude of a scale's exponent: products with any float32 stay within float64."""


@dataclasses.dataclass(frozen=True, slots=True)
class Quantised:
    """What became of real numbers.

    Attributes:
        values: whole numbers, from −most to most; see `most_of`.
        left: what was clipped and rounded away, in the units of the real numbers, float64.
    """

    values: NDArray[np.int64]
    left: Float64s


def most_of(bits: int) -> int:
    """The largest magnitude of a value of so many bits. Its range is symmetric: 127 for 8 bits.

    Raises:
        SecureAggregationError: fewer than 2 bits, or more than 24.
    """
    if not 2 <= bits <= MOST_VALUE_BITS:
        raise SecureAggregationError(f"a value has 2 to {MOST_VALUE_BITS} bits, not {bits}")
    return (1 << (bits - 1)) - 1


def exponent_for(largest: float, bits: int) -> int:
    """The least e with which numbers up to `largest` are not clipped: one step is 2^e.

    Args:
        largest: a magnitude. Of 0, which tells nothing, the exponent is the one for 1.
        bits: of a value.

    Raises:
        SecureAggregationError: the magnitude is negative, not finite, or too far from 1.
    """
    if not 0 <= largest < math.inf:
        raise SecureAggregationError(f"values are clipped to a magnitude that is finite, not to {largest}")
    most = most_of(bits)
    fraction, exponent = math.frexp((largest or 1.0) / most)  # largest / most = fraction · 2^exponent
    found = exponent - 1 if fraction == 0.5 else exponent
    if math.ldexp(most, found) < largest:
        found += 1  # the division was rounded down
    return _checked(found)


def draws(key: bytes, count: int) -> NDArray[np.uint32]:
    """What is drawn for the rounding of so many numbers: the key's AES-256-CTR stream, little-endian uint32.

    Args:
        key: 32 bytes, which are used for nothing else.
        count: how many numbers.
    """
    return np.frombuffer(keystream(key, 4 * count), "<u4")


def quantise(
    numbers: NDArray[np.float32] | Float64s,
    exponent: int,
    bits: int,
    share: float = 1.0,
    drawn: NDArray[np.uint32] | None = None,
) -> Quantised:
    """Whole numbers of which each one's expectation is number · share / 2^exponent, where that is in range.

    In float64: v = number · share · 2^−exponent, clipped to −most … most; then ⌊v + r · 2⁻³²⌋, where r is
    drawn for each number; without, v rounded to the nearest, ties to even.

    Args:
        numbers: real ones, one dimension.
        exponent: one step is 2^exponent.
        bits: of a value.
        share: weight / largest weight of who reports them, over 0 and up to 1.
        drawn: for stochastic rounding, as many as there are numbers; see `draws`.

    Raises:
        SecureAggregationError: a number is not finite, or an argument is out of range.
    """
    if not 0 < share <= 1:
        raise SecureAggregationError(f"a report's share of the largest weight is in (0, 1], not {share}")
    if not np.isfinite(numbers).all():
        raise SecureAggregationError("a value is not finite: the training diverged, and is not reported")
    most, step = most_of(bits), math.ldexp(1.0, _checked(exponent))
    with np.errstate(over="ignore"):
        exact = numbers.astype(np.float64) * share / step
    if not np.isfinite(exact).all():
        raise SecureAggregationError("a value is too large beside the round's scale to be clipped")
    clipped = np.clip(exact, -most, most)
    rounded = np.rint(clipped) if drawn is None else np.floor(clipped + drawn * 2.0**-32)
    values = np.clip(rounded, -most, most)  # v = most and a large r would reach most + 1 in float64
    return Quantised(values.astype(np.int64), (exact - values) * step / share)


def dequantise(values: NDArray[np.int64], exponent: int) -> Float64s:
    """The real numbers that whole ones, or sums of them, stand for."""
    return np.ldexp(values.astype(np.float64), _checked(exponent))


def next_exponent(exponent: int, mean: Float64s, bits: int) -> int:
    """The exponent of the cycle after one, from the mean of reports that the cycle told to everybody anyway.

    Single reports reach further than their mean. So there is room for four times its largest magnitude,
    and a step shrinks to no less than half, in case one cycle was a small one.

    Args:
        exponent: of the cycle.
        mean: of the same tensor, of updates times weight / largest weight.
        bits: of a value.
    """
    largest = float(np.abs(mean).max(initial=0.0))
    if largest == 0.0:
        return exponent
    return max(exponent_for(4 * largest, bits), exponent - 1)


def _checked(exponent: int) -> int:
    if abs(exponent) > MOST_EXPONENT:
        raise SecureAggregationError(
            f"a scale's exponent is −{MOST_EXPONENT} to {MOST_EXPONENT}, not {exponent}: the values are too "
            "large or too small"
        )
    return exponent
