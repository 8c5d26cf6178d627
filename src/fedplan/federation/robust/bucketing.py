"""Bucketing: averages of a few reports each, so that honest workers with uneven data look more alike."""

import hashlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.reports import Reports

_HASHED = 1024


class Bucketed:
    """The means of buckets of reports, as reports (Karimireddy, He and Jaggi 2022).

    Which reports come into one bucket is drawn by a generator whose seed is a hash of the reports: it is the
    same wherever they are averaged, and no worker knows it beforehand.

    Args:
        reports: the diffs.
        size: reports in a bucket, 2 or more; the last bucket may hold fewer.
    """

    def __init__(self, reports: Reports, size: int) -> None:
        self._reports = reports
        self.count = -(-reports.count // size)
        self.elements = reports.elements
        seed = hashlib.sha256(reports.columns(0, min(_HASHED, reports.elements)).tobytes()).digest()
        order = np.random.Generator(np.random.PCG64(int.from_bytes(seed, "big"))).permutation(reports.count)
        self._order = order
        self._starts = np.arange(0, reports.count, size)
        self._sizes = np.diff(np.append(self._starts, reports.count))

    def columns(self, start: int, stop: int) -> NDArray[Any]:
        """See `Reports`."""
        rows = self._reports.columns(start, stop)[self._order].astype(np.float64)
        means: NDArray[np.float64] = np.add.reduceat(rows, self._starts, axis=0) / self._sizes[:, None]
        return means
