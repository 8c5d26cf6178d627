"""Reading reports by slices of columns."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.reports import Reports

SLICE_BYTES = 1 << 20
"""About so many bytes of reports are read at once, as float32: what a processor's cache can hold."""

GRAIN = 16
"""Slices begin at multiples of so many columns. A sum over columns that adds up grain by grain does not
depend on how wide the slices are."""

_BYTES = 4  # of a float32; reports in float64 take twice as much


def ranges(reports: Reports, width: int | None = None) -> Iterator[slice]:
    """The slices of columns in which reports are read, from the first column to the last.

    Args:
        reports: of a cycle.
        width: columns in a slice; as many as `SLICE_BYTES` hold when it is None.
    """
    if width is None:
        grains = max(1, SLICE_BYTES // (_BYTES * max(1, reports.count) * GRAIN))
        if grains % 2 == 0:
            grains -= 1  # rows a power of two apart share cache lines: transposing takes four times as long
        width = grains * GRAIN
    for start in range(0, reports.elements, width):
        yield slice(start, min(start + width, reports.elements))


def slices(
    reports: Reports, width: int | None = None
) -> Iterator[tuple[slice, NDArray[np.float32] | NDArray[np.float64]]]:
    """The slices of columns, each with its values, one column of the reports after the other.

    Yields:
        which columns, and their values: (columns, reports), contiguous, the caller may write into them.
    """
    for part in ranges(reports, width):
        rows: NDArray[Any] = reports.columns(part.start, part.stop)
        yield part, np.ascontiguousarray(rows.T)
