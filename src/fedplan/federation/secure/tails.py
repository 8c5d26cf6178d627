"""How likely a random set of neighbours holds too many of one kind: hypergeometric tails."""

import functools
import math

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.tensors import Float64s


def at_least(population: int, marked: int, drawn: int) -> Float64s:
    """P[X ≥ x] for x = 0 … drawn + 1: X of so many drawn from a population, each once, are marked."""
    masses = _masses(population, marked, drawn)
    return np.append(np.cumsum(masses[::-1])[::-1], 0.0)


def fewer_than(population: int, marked: int, drawn: int) -> Float64s:
    """P[X < x] for x = 0 … drawn + 1."""
    return np.append(0.0, np.cumsum(_masses(population, marked, drawn)))


def _masses(population: int, marked: int, drawn: int) -> Float64s:
    """P[X = x] for x = 0 … drawn."""
    logs = _log_factorials(population)
    found = np.arange(drawn + 1)
    possible = (found <= marked) & (drawn - found <= population - marked)
    x = found[possible]
    masses = np.zeros(drawn + 1)
    masses[possible] = np.exp(
        _choose(logs, marked, x)
        + _choose(logs, population - marked, drawn - x)
        - _choose(logs, population, np.asarray(drawn))
    )
    return masses


def _choose(logs: Float64s, n: int, k: NDArray[np.int_]) -> Float64s:
    chosen: Float64s = logs[n] - logs[k] - logs[n - k]
    return chosen


@functools.lru_cache(maxsize=4)
def _log_factorials(most: int) -> Float64s:
    return np.array([math.lgamma(n + 1) for n in range(most + 1)])
