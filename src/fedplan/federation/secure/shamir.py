"""Shamir's secret sharing over the integers modulo p = 2^256 − 189.

A secret is the value at 0 of a random polynomial of degree threshold − 1; a share is its value at a point
from 1 on. So many shares as the threshold give the secret, and fewer tell nothing about it.
"""

import itertools
import math
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

from fedplan.errors import SecureAggregationError

PRIME = 2**256 - 189
"""The largest prime below 2^256."""

SHARE_BYTES = 32
"""Of a secret, and of a share: big-endian."""

Draw = Callable[[int], bytes]
"""Gives so many random bytes."""

DRAWN = secrets.token_bytes
"""The operating system's random bytes, which all secrets of a deployment are made of."""


def draw_below_prime(draw: Draw = DRAWN) -> int:
    """A random number from 0 to p − 1: 32 bytes, big-endian, drawn again where they reach p."""
    while (number := int.from_bytes(draw(SHARE_BYTES), "big")) >= PRIME:
        pass
    return number


def split(secret: int, threshold: int, points: Sequence[int], draw: Draw = DRAWN) -> list[int]:
    """The shares of a secret, one for each point.

    Args:
        secret: 0 to p − 1.
        threshold: so many shares give the secret.
        points: of who holds a share, from 1 on, each once.
        draw: gives the coefficients of x, x², …, in this order.

    Raises:
        SecureAggregationError: no secret, or a threshold or points that do not fit.
    """
    if not 0 <= secret < PRIME:
        raise SecureAggregationError("a secret that is shared is a number from 0 to p − 1")
    if not 1 <= threshold <= len(points):
        raise SecureAggregationError(f"{len(points)} shares cannot have a threshold of {threshold}")
    if len(set(points)) < len(points) or not all(0 < point < PRIME for point in points):
        raise SecureAggregationError("the points of shares are numbers from 1 to p − 1, each once")
    coefficients = [secret, *(draw_below_prime(draw) for _ in range(threshold - 1))]
    return [_value(coefficients, point) for point in points]


def combine(shares: Mapping[int, int]) -> int:
    """The secret that shares give: by their points, as many as the threshold or more.

    Fewer shares, or wrong ones, give another number; nothing here can tell.
    """
    points = list(shares)
    numerators, denominators = [], []
    for point in points:
        others = [other for other in points if other != point]
        numerators.append(math.prod(others) * shares[point] % PRIME)
        denominators.append(math.prod(other - point for other in others) % PRIME)
    return sum(n * i for n, i in zip(numerators, _inverses(denominators), strict=True)) % PRIME


def recover(shares: Mapping[int, int], threshold: int, is_right: Callable[[int], bool]) -> int | None:
    """The secret among shares of which some may be wrong; None where it is not found.

    Takes as many neighbouring shares as the threshold, in the order of their points, until they give what is
    right. One wrong share among more than the threshold never hides the secret; several may.

    Args:
        shares: by their points.
        threshold: of the sharing.
        is_right: whether a number is the secret.
    """
    for some in _windows(sorted(shares), threshold):
        found = combine({point: shares[point] for point in some})
        if is_right(found):
            return found
    return None


def _windows(points: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    """Each run of so many neighbours on the circle of points."""
    if len(points) < size:
        return
    starts = len(points) if len(points) > size else 1
    for start in range(starts):
        yield list(itertools.islice(itertools.cycle(points), start, start + size))


def _value(coefficients: Sequence[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):
        value = (value * point + coefficient) % PRIME
    return value


def _inverses(numbers: Sequence[int]) -> list[int]:
    """1 / number of each, with one inversion for all of them (Montgomery)."""
    before = [1]
    for number in numbers:
        before.append(before[-1] * number % PRIME)
    inverse = pow(before[-1], -1, PRIME)
    found = []
    for number, product in zip(reversed(numbers), reversed(before[:-1]), strict=True):
        found.append(inverse * product % PRIME)
        inverse = inverse * number % PRIME
    return found[::-1]
