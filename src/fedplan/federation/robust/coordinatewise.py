"""Rules that take each coordinate for itself."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import AggregationError
from fedplan.federation.reports import Reports
from fedplan.federation.robust.slices import slices
from fedplan.federation.tensors import Float64s


def median(reports: Reports) -> Float64s:
    """The median of each coordinate (Yin et al. 2018, "Byzantine-robust distributed learning", definition 1).

    Of an even number it is the mean of the two in the middle. The order of the reports does not matter.

    Returns:
        (elements,).

    Raises:
        AggregationError: there is no report.
    """
    enough(reports, 1, "median")
    made = np.empty(reports.elements)
    for part, values in slices(reports):
        made[part] = middle(values)
    return made


def trimmed_mean(reports: Reports, trimmed: int) -> Float64s:
    """The mean of each coordinate without its largest and smallest values (Yin et al. 2018, definition 2).

    The order of the reports does not matter.

    Args:
        reports: of a cycle.
        trimmed: how many values are left out on each side: β times the reports in the paper.

    Returns:
        (elements,).

    Raises:
        AggregationError: nothing would be left.
    """
    enough(reports, 2 * trimmed + 1, f"a mean without {trimmed} values on each side")
    made = np.empty(reports.elements)
    for part, values in slices(reports):
        values.sort(axis=-1)
        made[part] = means(values[:, trimmed : reports.count - trimmed])
    return made


def middle(values: NDArray[Any]) -> Float64s:
    """The median of each row: (rows, n) → (rows,). Reorders the values."""
    half = values.shape[1] // 2
    # one place and a maximum take half the time of two places
    values.partition(half, axis=-1)
    upper = values[:, half].astype(np.float64)
    if values.shape[1] % 2:
        return upper
    return np.asarray((values[:, :half].max(axis=-1) + upper) / 2)


def means(values: NDArray[Any]) -> Float64s:
    """The mean of each row, computed in float64: (rows, n) → (rows,)."""
    return np.asarray(values.astype(np.float64).mean(axis=-1))


def enough(reports: Reports, least: int, what: str) -> None:
    """Checks that there are as many reports as a rule needs.

    Raises:
        AggregationError: there are fewer.
    """
    if reports.count < least:
        raise AggregationError(
            f"{what} needs at least {least} reports, and there are {reports.count} "
            "(buckets count as reports, if there are any)"
        )
