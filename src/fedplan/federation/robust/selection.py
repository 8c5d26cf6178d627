"""Rules that select the reports whose neighbours are near.

Of equally good reports the one that comes first is taken.
"""

from collections.abc import Sequence

import numpy as np

from fedplan.federation.reports import Reports
from fedplan.federation.robust.coordinatewise import enough, means
from fedplan.federation.robust.distances import STRIP_BYTES, all_distances, strips
from fedplan.federation.robust.slices import slices
from fedplan.federation.tensors import Float64s


def krum(reports: Reports, f: int) -> Float64s:
    """The report with the least score (Blanchard et al. 2017, "Machine learning with adversaries").

    A report's score is the sum of its squared distances to its n − f − 2 nearest neighbours.

    Args:
        reports: of a cycle, at least 2f + 3.
        f: how many of them may be anything.

    Returns:
        (elements,).

    Raises:
        AggregationError: there are too few reports.
    """
    enough(reports, 2 * f + 3, f"krum with f={f}")
    return _mean_of(reports, [int(np.argmin(_scores(reports, f)))])


def multi_krum(reports: Reports, f: int, m: int | None = None) -> Float64s:
    """The mean of the m reports with the least scores (Blanchard et al. 2017, section 5).

    Args:
        reports: of a cycle, at least 2f + 3 and at least m + f.
        f: how many of them may be anything.
        m: how many are averaged; n − f when it is None, as in the paper's experiments.

    Returns:
        (elements,).

    Raises:
        AggregationError: there are too few reports.
    """
    enough(reports, max(2 * f + 3, (m or 0) + f), f"multi_krum with f={f}" + (f" and m={m}" if m else ""))
    order = np.argsort(_scores(reports, f), kind="stable")
    return _mean_of(reports, np.sort(order[: m or reports.count - f]).tolist())


def bulyan(reports: Reports, f: int) -> Float64s:
    """Bulyan over Krum (El Mhamdi et al. 2018, "The hidden vulnerability of distributed learning").

    Krum takes n − 2f reports, one after the other, each among those that are left. Of what they hold in a
    coordinate, the n − 4f values that are nearest to their median are averaged; of two that are equally near,
    the smaller one is taken first.

    The last reports that Krum takes have one neighbour each. Two that are each other's neighbour are equally
    good, so which of them is taken depends on the order of the reports.

    Args:
        reports: of a cycle, at least 4f + 3.
        f: how many of them may be anything.

    Returns:
        (elements,).

    Raises:
        AggregationError: there are too few reports, or more than `MOST_COMPARED`.
    """
    enough(reports, 4 * f + 3, f"bulyan with f={f}")
    selected = _select(all_distances(reports), f)
    made = np.empty(reports.elements)
    for part, values in slices(reports):
        made[part] = _mean_around_median(values[:, selected].astype(np.float64), 2 * f)
    return made


def _scores(reports: Reports, f: int) -> Float64s:
    """Krum's score of each report: (reports,)."""
    neighbours = reports.count - f - 2
    made = np.empty(reports.count)
    for part, distances in strips(reports):
        distances.sort(axis=-1)
        made[part] = distances[:, :neighbours].sum(axis=-1)
    return made


def _select(distances: Float64s, f: int) -> list[int]:
    """The n − 2f reports that Krum takes one after the other, in the order of the rows.

    Args:
        distances: (n, n).
        f: how many may be anything.
    """
    left = np.arange(len(distances))
    selected = []
    for _ in range(len(distances) - 2 * f):
        scores = _scores_among(distances, left, max(1, len(left) - f - 2))
        best = int(np.argmin(scores))
        selected.append(int(left[best]))
        left = np.delete(left, best)
    return sorted(selected)


def _scores_among(
    distances: Float64s, left: np.ndarray[tuple[int], np.dtype[np.int_]], neighbours: int
) -> Float64s:
    """Krum's scores when only some reports are left: (left,)."""
    made = np.empty(len(left))
    height = max(1, STRIP_BYTES // (8 * len(left)))
    for start in range(0, len(left), height):
        rows = left[start : start + height]
        among = distances[np.ix_(rows, left)]
        among.partition(neighbours - 1, axis=-1)
        made[start : start + height] = among[:, :neighbours].sum(axis=-1)
    return made


def _mean_around_median(values: Float64s, dropped: int) -> Float64s:
    """The mean of those values of each row that are nearest to its median: (rows, n) → (rows,).

    All but `dropped` are averaged. In a sorted row they stand together. The window that holds them moves up
    from the smallest values as long as the value that comes in is nearer than the one that goes out.
    """
    values.sort(axis=-1)
    count = values.shape[1]
    kept = count - dropped
    centre = (values[:, (count - 1) // 2, None] + values[:, count // 2, None]) / 2
    nearer = values[:, kept:] - centre < centre - values[:, :dropped]
    first = nearer.sum(axis=-1, keepdims=True)
    return means(np.take_along_axis(values, first + np.arange(kept), axis=-1))


def _mean_of(reports: Reports, selected: Sequence[int]) -> Float64s:
    made = np.empty(reports.elements)
    for part, values in slices(reports):
        made[part] = means(values[:, selected])
    return made
