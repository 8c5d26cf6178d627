"""Rules that move a point towards the reports, step by step.

A step needs the distances from the point to all reports. They are measured while the point's coordinates are
computed, so a step reads the reports once. (All distances could also come from the products of all pairs of
reports, which needs two readings however many steps there are. That loses digits when the point comes near to
a report, and its work grows with the square of the reports' number.)
"""

from collections.abc import Callable

import numpy as np

from fedplan.federation.reports import Reports
from fedplan.federation.robust.coordinatewise import enough, middle
from fedplan.federation.robust.slices import GRAIN, slices
from fedplan.federation.tensors import Float64s

Move = Callable[[Float64s, Float64s], Float64s]
"""(the reports' values: (columns, reports), the point: (columns,)) → where it moves: (columns,)."""


def centred_clipping(
    reports: Reports, tau: float | None = None, iterations: int = 3, centre: Float64s | None = None
) -> Float64s:
    """Centred clipping (Karimireddy, He and Jaggi 2021, "Learning from history for Byzantine robust
    optimization", algorithm 2): v ← v + mean of (x − v) min(1, τ / ‖x − v‖).

    Args:
        reports: of a cycle.
        tau: τ, the radius of clipping, in the units of the diffs' norms. None: in each iteration the median
            of the distances ‖x − v‖, so that a minority of reports cannot enlarge it. A published constant,
            such as 10 for gradients with momentum, means nothing for diffs of another training.
        iterations: how often v moves. Once is enough from the aggregate before, but not from 0.
        centre: where v begins, (elements,): the aggregate before; None is 0, the model as it is.

    Returns:
        (elements,). It is less than iterations × τ away from the centre.
    """
    enough(reports, 1, "centred_clipping")
    point = np.zeros(reports.elements) if centre is None else np.array(centre, np.float64)
    distances = _move(reports, point, lambda _values, at: at)
    for left in reversed(range(iterations)):
        radius = float(np.median(distances)) if tau is None else tau
        share = np.ones_like(distances)
        np.divide(radius, distances, out=share, where=distances > radius)
        distances = _move(reports, point, _clipped(share), last=left == 0)
    return point


def geometric_median(reports: Reports, nu: float = 1e-6, iterations: int = 3) -> Float64s:
    """The geometric median, by the smoothed Weiszfeld algorithm (Pillutla, Kakade and Harchaoui 2022, "Robust
    aggregation for federated learning"): z ← Σ x / max(ν, ‖x − z‖), divided by Σ 1 / max(ν, ‖x − z‖).

    z begins at the coordinate-wise median. From the mean, an iteration only divides the pull of a far report
    by a number, so with the paper's three iterations one worker could still send the model anywhere.

    Args:
        reports: of a cycle.
        nu: ν, the smoothing: no distance counts as less.
        iterations: how often z moves.

    Returns:
        (elements,).
    """
    enough(reports, 1, "geometric_median")
    point = np.empty(reports.elements)
    distances = _move(reports, point, lambda values, _at: middle(values.copy()), last=iterations == 0)
    for left in reversed(range(iterations)):
        weights = 1 / np.maximum(nu, distances)
        distances = _move(reports, point, _weighted(weights / weights.sum()), last=left == 0)
    return point


def _clipped(share: Float64s) -> Move:
    """A step of centred clipping; share: of its difference that each report counts."""

    def move(values: Float64s, at: Float64s) -> Float64s:
        differences = values - at[:, None]
        differences *= share
        return np.asarray(at + differences.mean(axis=-1))

    return move


def _weighted(weights: Float64s) -> Move:
    def move(values: Float64s, _at: Float64s) -> Float64s:
        return np.asarray((values * weights).sum(axis=-1))

    return move


def _move(reports: Reports, point: Float64s, move: Move, last: bool = False) -> Float64s:
    """Moves a point in place.

    Returns:
        the distances from its new place to all reports: (reports,), zeros if this is the last move. One that
        no float64 can hold is infinite, and its report counts nothing.
    """
    squares = np.zeros(reports.count)
    with np.errstate(over="ignore"):
        for part, found in slices(reports):
            values = found.astype(np.float64)
            point[part] = move(values, point[part])
            if last:
                continue
            values -= point[part, None]
            np.square(values, out=values)
            for start in range(0, len(values), GRAIN):
                squares += values[start : start + GRAIN].sum(axis=0)
    return np.sqrt(squares)
