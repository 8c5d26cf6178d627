"""The distances between reports.

The squared distance of two rows comes from their products, ‖a − b‖² = a·a + b·b − 2 a·b, which a matrix
product computes for all pairs at once. That loses digits where the distance is small beside the norms. So
the coordinate-wise median is subtracted first: then the norms of most reports are no larger than what they
differ by, whatever they have in common and whatever a minority sends.
"""

from collections.abc import Iterator

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.reports import Reports
from fedplan.federation.robust.coordinatewise import middle
from fedplan.federation.robust.slices import GRAIN, slices
from fedplan.federation.tensors import Float64s

MOST_COMPARED = 4096
"""Of more reports the distances of all pairs are not held in memory: they would take more than 128 MB."""

STRIP_BYTES = 1 << 24
"""About so many bytes of distances are computed in one reading of the reports."""

_BLOCK_NUMBERS = 1 << 21  # in one matrix product: on a busy machine each one waits for BLAS's threads


def strips(reports: Reports) -> Iterator[tuple[slice, Float64s]]:
    """Squared distances from some reports to all, strip after strip; each strip reads the reports once.

    Yields:
        which reports, and their squared distances: (those, reports). A report is infinitely far from itself,
        so that it is never its own neighbour, and so is one whose squares no float64 holds from all others.
    """
    height = max(1, STRIP_BYTES // (8 * max(1, reports.count)))
    for start in range(0, reports.count, height):
        part = slice(start, min(start + height, reports.count))
        yield part, _strip(reports, part)


def all_distances(reports: Reports) -> Float64s:
    """All strips as one matrix: (reports, reports).

    Raises:
        AggregationError: there are more than `MOST_COMPARED` reports.
    """
    count = reports.count
    if count > MOST_COMPARED:
        raise AggregationError(
            f"the rule compares all pairs of at most {MOST_COMPARED} reports, and there are {count}: set "
            "'max_diffs', or put several reports into a bucket with 'bucketing'"
        )
    made = np.empty((count, count))
    for part, distances in strips(reports):
        made[part, part.start :] = distances[:, part.start :]
        made[part.start :, part] = distances[:, part.start :].T  # the same bits in both directions
    return made


def _strip(reports: Reports, part: slice) -> Float64s:
    count = reports.count
    products = np.zeros((part.stop - part.start, count))
    product = np.empty_like(products)
    norms = np.zeros(count)
    with np.errstate(over="ignore", invalid="ignore"):  # of float64 reports; see `_far`
        for _, values in slices(reports, _width(count)):  # (columns, reports)
            centred = values.astype(np.float64)
            centred -= middle(values)[:, None]
            products += np.matmul(centred[:, part].T, centred, out=product)
            norms += np.square(centred, out=centred).sum(axis=0)
        products *= -2
        products += np.add(
            norms[part, None], norms, out=product
        )  # as one sum: the same for (i, j) and (j, i)
    np.maximum(products, 0, out=products)
    return _far(products, norms, part)


def _width(count: int) -> int:
    """Columns in one matrix product: a function of nothing else, so that sums have the same bits always."""
    return max(GRAIN, _BLOCK_NUMBERS // count)


def _far(distances: Float64s, norms: Float64s, part: slice) -> Float64s:
    """Makes infinite what is no neighbour."""
    beyond = ~np.isfinite(norms)
    distances[beyond[part], :] = np.inf
    distances[:, beyond] = np.inf
    own = np.arange(part.start, part.stop)
    distances[own - part.start, own] = np.inf
    return distances
