"""Reading reports by slices, so that memory does not grow with their number."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.reports import Reports
from fedplan.federation.tensors import Float64s

_BYTES = 32 * 1024 * 1024
"""Of float64 numbers of a slice; a rule holds a few copies of one."""


class MatrixReports:
    """Reports that are all in memory.

    Args:
        rows: one diff a row: (count, elements), of float32 or float64.
    """

    def __init__(self, rows: NDArray[Any]) -> None:
        self._rows = rows
        self.count, self.elements = rows.shape

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """See `Reports`."""
        return self._rows[:, start:stop].copy()


def slices(reports: Reports) -> Iterator[tuple[int, int]]:
    """Where each slice of the columns starts and stops."""
    width = max(1, _BYTES // (8 * max(1, reports.count)))
    for start in range(0, reports.elements, width):
        yield start, min(start + width, reports.elements)


def by_slices(reports: Reports, combine: Callable[[NDArray[Any]], Float64s]) -> Float64s:
    """What a function of some columns makes of all of them: (elements,).

    Args:
        reports: what it is applied to.
        combine: (count, some columns) → (some columns,).
    """
    made = np.empty(reports.elements)
    for start, stop in slices(reports):
        made[start:stop] = combine(reports.columns(start, stop))
    return made


def weighted(reports: Reports, weights: Float64s) -> Float64s:
    """The sum of the reports, each times its weight: (elements,)."""
    chosen = np.flatnonzero(weights)
    return by_slices(reports, lambda part: weights[chosen] @ part[chosen].astype(np.float64))


def inner_products(reports: Reports, *more: Float64s) -> Float64s:
    """The inner products of all reports, and of further vectors, with each other.

    They are taken about the mean of the reports: distances stay the same, and few digits are lost where the
    reports are alike.

    Args:
        reports: the first rows.
        more: further rows, each (elements,).

    Returns:
        (count + further rows, the same).
    """
    size = reports.count + len(more)
    products = np.zeros((size, size))
    for start, stop in slices(reports):
        rows = np.concatenate(
            [reports.columns(start, stop).astype(np.float64), *(row[None, start:stop] for row in more)]
        )
        rows -= rows[: reports.count].mean(axis=0)
        products += rows @ rows.T
    return products


def squared_distances(products: Float64s) -> Float64s:
    """Between all pairs of rows, by their inner products: (rows, rows)."""
    squares = np.diagonal(products)
    return np.maximum(squares[:, None] + squares[None, :] - 2 * products, 0.0)
