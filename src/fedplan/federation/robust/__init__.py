"""Robust rules: they combine the diffs of a cycle when some of the workers may send anything.

A rule is a function from all reports of a cycle to one vector. It counts every report alike: a worker that
lies would also lie about its samples. It reads the reports by slices of columns, so its memory does not grow
with their number times the size of the model.

The result is a function of the rows, their order and the settings: the same bits on every run, however wide
the slices are. The median and the trimmed mean do not depend on the order of the rows. For the others it
matters to ties between equally good reports (Krum and its kin take the one that comes first; Bulyan always
meets some), to the last bits of sums, and to who shares a bucket.
"""

from fedplan.federation.robust.bucketing import Buckets, fingerprint
from fedplan.federation.robust.coordinatewise import median, trimmed_mean
from fedplan.federation.robust.distances import MOST_COMPARED
from fedplan.federation.robust.iterative import centred_clipping, geometric_median
from fedplan.federation.robust.matrix import MatrixReports
from fedplan.federation.robust.selection import bulyan, krum, multi_krum

__all__ = [
    "MOST_COMPARED",
    "Buckets",
    "MatrixReports",
    "bulyan",
    "centred_clipping",
    "fingerprint",
    "geometric_median",
    "krum",
    "median",
    "multi_krum",
    "trimmed_mean",
]
