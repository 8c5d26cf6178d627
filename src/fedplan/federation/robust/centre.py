"""Rules that look for a centre of the reports.

Both move a point by weighted means of the reports. So the point stays a weighted mean of them (and of the
point where it began), and its distances follow from the inner products of the reports: the reports themselves
are read twice, however many steps it takes.
"""

import numpy as np

from fedplan.federation.reports import Reports
from fedplan.federation.robust.slices import inner_products, weighted
from fedplan.federation.tensors import Float64s

_MOST_STEPS = 1000
_ENOUGH = 1e-12
"""A step that changes weights by no more ends the search."""


def centred_clipping(
    reports: Reports, tau: float, iterations: int, centre: Float64s | None = None
) -> Float64s:
    """Centred clipping (Karimireddy, He and Jaggi 2021).

    In each iteration v ← v + mean of (x − v) min(1, tau / ‖x − v‖).

    Args:
        reports: the diffs.
        tau: how far a report may pull at most.
        iterations: how often.
        centre: where v begins: (elements,), such as the last cycle's average; zero by default.

    Returns:
        (elements,).
    """
    count = reports.count
    begin = np.zeros(reports.elements) if centre is None else centre
    products = inner_products(reports, begin)
    weights = np.zeros(count + 1)
    weights[count] = 1.0
    for _ in range(iterations):
        distances = _distances(products, weights)[:count]
        shares = tau / np.maximum(distances, tau) / count
        weights *= 1.0 - shares.sum()
        weights[:count] += shares
    moved: Float64s = weighted(reports, weights[:count]) + weights[count] * begin
    return moved


def geometric_median(reports: Reports, nu: float) -> Float64s:
    """The point with the least sum of distances to the reports, by smoothed Weiszfeld steps.

    RFA (Pillutla, Kakade and Harchaoui 2022) takes three or four such steps, for each of them costs it a
    round of communication. Here they are repeated until nothing changes any more.

    Args:
        reports: the diffs.
        nu: distances count as at least this.

    Returns:
        (elements,).
    """
    products = inner_products(reports)
    weights = np.full(reports.count, 1.0 / reports.count)
    for _ in range(_MOST_STEPS):
        pulls = 1.0 / np.maximum(nu, _distances(products, weights))
        after = pulls / pulls.sum()
        moved = float(np.abs(after - weights).max())
        weights = after
        if moved <= _ENOUGH:
            break
    return weighted(reports, weights)


def _distances(products: Float64s, weights: Float64s) -> Float64s:
    """From the weighted mean of some rows to each of them: (rows,). The weights' sum is 1."""
    towards = products @ weights
    squares = np.diagonal(products) - 2 * towards + weights @ towards
    return np.sqrt(np.maximum(squares, 0.0))
