"""Reports in buckets: each is the mean of a few, and a seed says of which."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.federation.robust import Buckets, MatrixReports, fingerprint, geometric_median, median, slices
from tests.federation.robust import papers
from tests.federation.robust.test_rules import random_rows


@given(st.integers(1, 40), st.integers(1, 9), st.integers(2, 50), st.integers(0, 2**64 - 1))
def test_every_report_is_in_one_bucket(count, elements, size, seed):
    rows = random_rows(count, elements)
    made = Buckets(MatrixReports(rows), size, seed)
    assert (made.count, made.elements) == (-(-count // size), elements)
    order = np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
    means = papers.buckets(rows.astype(np.float64), size, order)
    np.testing.assert_allclose(made.columns(0, elements), means, rtol=1e-6, atol=1e-6)
    assert sorted(order) == list(range(count))


def test_the_last_bucket_is_the_mean_of_what_is_in_it():
    rows = np.full((5, 2), 7.0)
    np.testing.assert_array_equal(Buckets(MatrixReports(rows), 3, 1).columns(0, 2), np.full((2, 2), 7.0))


def test_seeds_make_the_buckets():
    reports = MatrixReports(random_rows(30, 8))
    one, same, other = (Buckets(reports, 2, seed).columns(0, 8) for seed in (1, 1, 2))
    assert one.tobytes() == same.tobytes()
    assert not np.array_equal(one, other)


def test_the_permutation_is_the_same_in_all_versions_of_numpy():
    rows = np.arange(6, dtype=np.float64)[:, None]
    made = Buckets(MatrixReports(rows), 1, 2026).columns(0, 1)
    assert made[:, 0].tolist() == PERMUTATION


PERMUTATION = [0.0, 4.0, 3.0, 2.0, 1.0, 5.0]
"""Of six, with the seed 2026."""


@pytest.mark.parametrize("rule", [median, geometric_median])
@pytest.mark.parametrize("elements", [1, 17, 500])
def test_slices_of_every_size_give_equal_bits(rule, elements, monkeypatch):
    reports = MatrixReports(random_rows(23, elements))
    made = set()
    for size in (1, 3 * 16 * 23 * 4, 1 << 20):
        monkeypatch.setattr(slices, "SLICE_BYTES", size)
        made.add(rule(Buckets(reports, 3, fingerprint(reports))).tobytes())
    assert len(made) == 1


def test_a_fingerprint_depends_on_every_report():
    rows = random_rows(9, 100)
    found = fingerprint(MatrixReports(rows))
    assert found == fingerprint(MatrixReports(rows.copy()))
    for row in range(9):
        changed = rows.copy()
        changed[row, 50] += 1
        assert fingerprint(MatrixReports(changed)) != found


def test_a_fingerprint_sees_what_changes_behind_a_first_layer_that_does_not():
    """The first rows of an embedding may belong to words that nobody used: no worker may foresee the seed."""
    seeds = set()
    for cycle in range(5):
        rows = random_rows(20, 100_000, cycle)
        rows[:, :90_000] = 0
        seeds.add(fingerprint(MatrixReports(rows)))
    assert len(seeds) == 5
