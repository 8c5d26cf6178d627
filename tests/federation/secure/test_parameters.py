"""Degrees and thresholds, held against published ones and against plain counting."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure import Parameters, Trust, parameters_for, ring_bits
from fedplan.federation.secure.tails import at_least, fewer_than


@pytest.mark.parametrize(
    ("workers", "trust", "corrupt", "degree", "threshold"),
    [
        (10, "honest", 100, 9, 6),
        (10, "lying", 100, 9, 6),
        (100, "honest", 100, 99, 56),
        (100, "lying", 100, 99, 56),
        (200, "honest", 100, 54, 21),
        (500, "honest", 100, 76, 31),
        (1000, "honest", 100, 88, 36),
        (1000, "honest", 200, 140, 67),
        (1000, "honest", 334, 252, 138),
        (1000, "lying", 100, 414, 247),
    ],
)
def test_known_degrees_and_thresholds(workers, trust, corrupt, degree, threshold):
    found = parameters_for(workers, Trust(trust), corrupt=corrupt)

    assert (found.degree, found.threshold) == (degree, threshold)
    assert found.fault() is None


def test_the_page_has_these_parameters():
    page = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text()
    rows = re.findall(r"^\| (\d+) \| (\w+), (\d+) \| (\w+), (\d+) \|$", page, re.MULTILINE)

    assert [int(row[0]) for row in rows] == [10, 100, 200, 500, 1000]
    for workers, *cells in rows:
        told = []
        for trust in Trust:
            found = parameters_for(int(workers), trust)
            told += ["complete" if found.is_complete else str(found.degree), str(found.threshold)]
        assert cells == told


@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("workers", [*range(3, 104), 150, 333, 2000])
def test_every_number_of_workers_has_parameters(workers, trust):
    found = parameters_for(workers, trust)

    assert found.fault() is None
    assert found.is_complete is (workers <= 100)
    assert found.fewest == math.ceil(workers * 7 / 10)


@pytest.mark.parametrize(
    ("population", "marked", "drawn"), [(9, 3, 4), (30, 28, 10), (50, 0, 5), (12, 12, 7)]
)
def test_tails_are_what_counting_gives(population, marked, drawn):
    masses = [
        math.comb(marked, x) * math.comb(population - marked, drawn - x) / math.comb(population, drawn)
        for x in range(drawn + 1)
    ]
    above = [sum(masses[x:]) for x in range(drawn + 2)]
    below = [sum(masses[:x]) for x in range(drawn + 2)]

    np.testing.assert_allclose(at_least(population, marked, drawn), above, rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(fewer_than(population, marked, drawn), below, rtol=1e-9, atol=1e-15)


def test_small_tails_are_exact():
    """P[X ≥ 36] among 88 of 999 with 100 marked, by whole numbers."""
    ways = sum(math.comb(100, x) * math.comb(899, 88 - x) for x in range(36, 89))
    assert at_least(999, 100, 88)[36] == pytest.approx(ways / math.comb(999, 88), rel=1e-9)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"threshold": 20}, "corrupt workers may hold enough"),
        ({"degree": 87}, "an even number"),
        ({"threshold": 0}, "no threshold"),
        ({"threshold": 90}, "no threshold"),
        ({"workers": 2, "degree": 1}, "3 to"),
        ({"dropout": 1000}, "0 to 999"),
        ({"dropout": 950}, "fewer than two honest"),
        ({"trust": Trust.LYING}, "corrupt workers may hold enough"),
        ({"trust": Trust.LYING, "dropout": 400, "corrupt": 300, "threshold": 89}, "must sign the same"),
        ({"trust": Trust.LYING, "threshold": 89}, "without honest neighbours: it needs more than 400"),
    ],
)
def test_parameters_that_do_not_keep_their_promise_say_why(changes, why):
    sound = parameters_for(1000)
    fault = dataclasses.replace(sound, **changes).fault()

    assert fault is not None
    assert why in fault


def test_the_complete_graph_needs_fewer_shares_than_are_left():
    assert "are left" in (Parameters(10, Trust.HONEST, 300, 100, 9, 8).fault() or "")


@pytest.mark.parametrize(
    ("workers", "dropout", "corrupt"), [(2, 300, 100), (10, 500, 200), (100_001, 300, 100)]
)
def test_what_has_no_parameters_is_refused_and_says_what_to_do(workers, dropout, corrupt):
    with pytest.raises(SecureAggregationError, match="Take more workers, or let fewer"):
        parameters_for(workers, dropout=dropout, corrupt=corrupt)


def test_who_asks_for_an_honest_grid_is_content_with_a_lying_one():
    assert Trust.LYING.covers(Trust.HONEST)
    assert Trust.HONEST.covers(Trust.HONEST)
    assert not Trust.HONEST.covers(Trust.LYING)


@pytest.mark.parametrize(
    ("workers", "bits"), [(1, 8), (2, 9), (10, 12), (100, 15), (128, 15), (129, 16), (1000, 18)]
)
def test_the_ring_has_room_for_the_sum(workers, bits):
    assert ring_bits(8, workers) == bits
