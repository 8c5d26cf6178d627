"""Rules that choose the reports which lie near to many others."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.reports import Reports
from fedplan.federation.robust.slices import by_slices, inner_products, squared_distances, weighted
from fedplan.federation.tensors import Float64s

Places = NDArray[np.intp]


def krum(reports: Reports, f: int) -> Float64s:
    """The report that is nearest to its neighbours (Blanchard et al. 2017): Krum.

    A report's score is the sum of its squared distances to the count − f − 2 nearest others; of equal scores
    the first report's counts.

    Args:
        reports: the diffs, at least 2 f + 3.
        f: how many may be made to mislead.

    Returns:
        (elements,).
    """
    return multi_krum(reports, f, 1)


def multi_krum(reports: Reports, f: int, m: int | None = None) -> Float64s:
    """The mean of the m reports with the best scores (Blanchard et al. 2017): Multi-Krum.

    Args:
        reports: the diffs, at least 2 f + 3.
        f: how many may be made to mislead.
        m: how many are averaged; count − f by default.

    Returns:
        (elements,).
    """
    chosen = reports.count - f if m is None else m
    scores = _scores(squared_distances(inner_products(reports)), f)
    weights = np.zeros(reports.count)
    weights[np.argsort(scores, kind="stable")[:chosen]] = 1.0 / chosen
    return weighted(reports, weights)


def bulyan(reports: Reports, f: int) -> Float64s:
    """Bulyan (El Mhamdi et al. 2018): the numbers about the median of the reports that Krum chooses.

    Krum chooses count − 2 f reports, one after the other. Of each number, the count − 4 f values that are
    nearest to their median are averaged.

    Args:
        reports: the diffs, at least 4 f + 3.
        f: how many may be made to mislead.

    Returns:
        (elements,).
    """
    distances = squared_distances(inner_products(reports))
    left = list(range(reports.count))
    chosen = []
    for _ in range(reports.count - 2 * f):
        best = int(np.argmin(_scores(distances[np.ix_(left, left)], f)))
        chosen.append(left.pop(best))
    kept = len(chosen) - 2 * f
    places = np.array(sorted(chosen))
    return by_slices(reports, lambda part: _about_median(part[places], kept))


def _scores(distances: Float64s, f: int) -> Float64s:
    """Krum's score of each report: (count,). With few reports left at least the nearest one counts."""
    neighbours = max(1, len(distances) - f - 2)
    ordered = np.sort(distances, axis=1)[:, 1 : neighbours + 1]  # the nearest is the report itself
    scores: Float64s = ordered.sum(axis=1)
    return scores


def _about_median(part: NDArray[Any], kept: int) -> Float64s:
    """Of each column the mean of the values that are nearest to their median: (columns,)."""
    rows = np.sort(np.ascontiguousarray(part.T), axis=1).astype(np.float64)  # (columns, chosen)
    count = rows.shape[1]
    middle = 0.5 * (rows[:, (count - 1) // 2] + rows[:, count // 2])
    starts = np.arange(count - kept + 1)
    # the nearest ones stand side by side: those where the farther end is nearest
    farthest = np.maximum(middle[:, None] - rows[:, starts], rows[:, starts + kept - 1] - middle[:, None])
    first: Places = farthest.argmin(axis=1)
    found = np.take_along_axis(rows, first[:, None] + np.arange(kept), axis=1)
    means: Float64s = found.mean(axis=1)
    return means
