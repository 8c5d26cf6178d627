"""Robust rules: what many diffs have in common when some of them are made to mislead.

A rule takes `Reports`, of which it reads some columns at a time, and gives one vector. Reports count the
same: who lies about a diff would lie about its weight too.
"""

from fedplan.federation.robust.bucketing import Bucketed
from fedplan.federation.robust.centre import centred_clipping, geometric_median
from fedplan.federation.robust.coordinates import median, trimmed_mean
from fedplan.federation.robust.selection import bulyan, krum, multi_krum
from fedplan.federation.robust.slices import MatrixReports

__all__ = [
    "Bucketed",
    "MatrixReports",
    "bulyan",
    "centred_clipping",
    "geometric_median",
    "krum",
    "median",
    "multi_krum",
    "trimmed_mean",
]
