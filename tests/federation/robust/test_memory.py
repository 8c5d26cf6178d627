"""Memory: of the reports, only a slice is there at a time."""

import numpy as np
import pytest

from fedplan.federation import robust
from fedplan.federation.robust.distances import all_distances, strips
from tests.memory import peak

MB = 1 << 20
MOST = 256 * MB


class Computed:
    """Reports that nobody holds: each is a vector of its own, stretched over the columns."""

    def __init__(self, count: int, elements: int) -> None:
        self.count, self.elements = count, elements
        rng = np.random.default_rng(0)
        self._scales = rng.normal(size=count).astype(np.float32)[:, None]
        self._shape = rng.normal(size=elements).astype(np.float32)

    def columns(self, start, stop):
        return self._scales * self._shape[start:stop]


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "rule",
    [
        robust.median,
        lambda reports: robust.trimmed_mean(reports, 10),
        lambda reports: robust.centred_clipping(reports, iterations=1),
        lambda reports: robust.geometric_median(reports, iterations=1),
        lambda reports: robust.median(robust.Buckets(reports, 1000, robust.fingerprint(reports))),
    ],
    ids=["median", "trimmed_mean", "centred_clipping", "geometric_median", "buckets"],
)
def test_300_mb_of_reports_take_a_fraction_of_it(rule):
    assert peak(lambda: rule(Computed(20_000, 4000))) < 64 * MB


@pytest.mark.some(2)
@pytest.mark.parametrize(
    "work",
    [
        lambda: robust.krum(Computed(5000, 600), 3),  # 200 MB of distances
        lambda: next(strips(Computed(40_000, 600))),
        lambda: next(strips(robust.Buckets(Computed(80_000, 600), 2, 1))),
        lambda: all_distances(Computed(robust.MOST_COMPARED, 600)),
    ],
    ids=["krum", "krum of many", "krum of many buckets", "bulyan"],
)
def test_distances_of_all_pairs_stay_within_256_mb(work):
    assert peak(work) < MOST
