"""Bucketing: reports are averaged in small groups first (Karimireddy, He and Jaggi 2022, "Byzantine-robust
learning on heterogeneous datasets via bucketing", algorithm 1).

Where workers' data differ, so do honest reports, and a robust rule takes the unusual ones for lies. Means of
a few reports differ less. A bucket with one lie in it is a lie, so the share of lies grows with the size.
"""

import dataclasses
import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.reports import Reports
from fedplan.federation.robust.slices import ranges
from fedplan.federation.tensors import Float64s

_LOOKED_AT = 256  # columns in a place that a seed is made from
_PLACES = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Buckets:
    """Reports in random buckets: each row is the mean of a bucket. See `fedplan.federation.Reports`.

    Attributes:
        reports: what is put into the buckets.
        size: reports in a bucket: s in the paper. The last bucket may have fewer, and is their mean all the
            same.
        seed: of who shares a bucket; not negative. Equal seeds give equal buckets.
    """

    reports: Reports
    size: int
    seed: int

    @property
    def count(self) -> int:
        """How many buckets."""
        return -(-self.reports.count // self.size)

    @property
    def elements(self) -> int:
        """How many numbers each holds."""
        return self.reports.elements

    def columns(self, start: int, stop: int) -> Float64s:
        """The buckets' means in some columns: (buckets, stop − start)."""
        made, order = np.empty((self.count, stop - start)), self._order()
        for part in ranges(_Part(self.reports, start, stop)):  # all reports of a wide slice may be too much
            values = self.reports.columns(start + part.start, start + part.stop)
            made[:, part] = self._means(values, order)
        return made

    def _means(self, values: NDArray[np.float32] | NDArray[np.float64], order: NDArray[np.intp]) -> Float64s:
        total = np.zeros((self.count, values.shape[1]))
        for place in range(self.size):
            rows = order[place :: self.size]
            total[: len(rows)] += values[rows]
        members = np.full(self.count, self.size)
        members[-1] = self.reports.count - self.size * (self.count - 1)
        return np.asarray(total / members[:, None])

    def _order(self) -> NDArray[np.intp]:
        # raw bits are sorted, for NumPy keeps them the same in all versions, and its shuffles not
        return np.argsort(np.random.PCG64(self.seed).random_raw(self.reports.count), kind="stable")


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """Some columns of reports, as far as `ranges` looks."""

    reports: Reports
    start: int
    stop: int

    @property
    def count(self) -> int:
        return self.reports.count

    @property
    def elements(self) -> int:
        return self.stop - self.start

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        return self.reports.columns(self.start + start, self.start + stop)


def fingerprint(reports: Reports) -> int:
    """A seed from what reports hold in some places, from their first columns to their last.

    Equal reports give equal seeds. Each cycle has another one, and no worker can know it beforehand, as long
    as honest reports differ in one of these places: the last one is mostly the bias of a model's last layer.
    """
    digest = hashlib.blake2b(digest_size=8)
    for start in _places(reports.elements):
        looked_at = _Part(reports, start, min(start + _LOOKED_AT, reports.elements))
        for part in ranges(looked_at):
            digest.update(np.ascontiguousarray(looked_at.columns(part.start, part.stop).T).tobytes())
    return int.from_bytes(digest.digest(), "little")


def _places(elements: int) -> Iterable[int]:
    """Where the places begin. They lie evenly, or side by side if that is all there is."""
    if elements <= _PLACES * _LOOKED_AT:
        return range(0, elements, _LOOKED_AT)
    return [place * (elements - _LOOKED_AT) // (_PLACES - 1) for place in range(_PLACES)]
