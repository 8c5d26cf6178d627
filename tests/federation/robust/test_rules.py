"""Each robust rule against a plain statement of it, written from its paper, with all reports in memory."""

import itertools
import math
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import ConfigError
from fedplan.federation import ServerState, strategy_names
from fedplan.federation.robust import (
    Bucketed,
    MatrixReports,
    bulyan,
    centred_clipping,
    geometric_median,
    krum,
    median,
    multi_krum,
    slices,
    trimmed_mean,
)
from tests.federation.made import strategy


def reports(rows):
    return MatrixReports(np.asarray(rows))


def krum_scores(rows, f):
    scores = []
    for i, row in enumerate(rows):
        others = sorted(float(((row - other) ** 2).sum()) for j, other in enumerate(rows) if j != i)
        scores.append(sum(others[: max(1, len(rows) - f - 2)]))
    return scores


def by_hand_trimmed_mean(rows, beta):
    left_out = math.floor(beta * len(rows))
    ordered = np.sort(rows, axis=0)
    return ordered[left_out : len(rows) - left_out].mean(0)


def by_hand_multi_krum(rows, f, m=None):
    best = np.argsort(krum_scores(rows, f), kind="stable")[: len(rows) - f if m is None else m]
    return rows[best].mean(0)


def by_hand_bulyan(rows, f):
    left, chosen = list(range(len(rows))), []
    while len(chosen) < len(rows) - 2 * f:
        chosen.append(left.pop(int(np.argmin(krum_scores(rows[left], f)))))
    picked, kept = rows[chosen], len(chosen) - 2 * f
    result = []
    for column in picked.T:
        near = np.argsort(abs(column - np.median(column)), kind="stable")[:kept]
        result.append(column[near].mean())
    return np.array(result)


def by_hand_clipping(rows, tau, iterations, centre):
    v = np.zeros(rows.shape[1]) if centre is None else centre
    for _ in range(iterations):
        v = v + np.mean([(x - v) * min(1.0, tau / max(np.linalg.norm(x - v), 1e-300)) for x in rows], axis=0)
    return v


def sum_of_distances(point, rows):
    return float(np.linalg.norm(rows - point, axis=1).sum())


@st.composite
def matrices(draw, least=1, most=24):
    count, elements = draw(st.integers(least, most)), draw(st.integers(1, 9))
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    rows = rng.normal(size=(count, elements)) * 10.0 ** draw(st.integers(-6, 6))
    kind = draw(st.sampled_from(["plain", "twins", "constant", "liars"]))
    if kind == "twins":
        rows[rng.integers(0, count, count // 2)] = rows[0]
    if kind == "constant":
        rows[:, 0] = 3.0
    if kind == "liars":
        rows[: count // 5] *= -10
    return rows.astype(draw(st.sampled_from([np.float32, np.float64])))


def close(ours, theirs, rows):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6 * float(np.abs(rows).max()))


@given(matrices())
def test_median(rows):
    close(median(reports(rows)), np.median(rows.astype(np.float64), axis=0), rows)


@given(matrices(), st.floats(0, 0.49))
def test_trimmed_mean(rows, beta):
    close(trimmed_mean(reports(rows), beta), by_hand_trimmed_mean(rows.astype(np.float64), beta), rows)


@given(st.data())
@settings(deadline=None)
def test_krum_and_multi_krum(data):
    f = data.draw(st.integers(0, 4))
    rows = data.draw(matrices(2 * f + 3))
    exact = rows.astype(np.float64)
    scores = np.array(krum_scores(exact, f))
    ours = krum(reports(rows), f)
    chosen = [i for i, row in enumerate(exact) if np.allclose(row, ours, rtol=1e-12, atol=0)]
    assert chosen
    assert min(scores[chosen]) <= scores.min() * (1 + 1e-9) + 1e-9 * float((exact**2).max())
    gaps = np.diff(np.sort(scores))
    if gaps.size and (gaps > 1e-6 * scores.max()).all():  # else rounding decides
        close(multi_krum(reports(rows), f), by_hand_multi_krum(exact, f), rows)
        close(multi_krum(reports(rows), f, 2), by_hand_multi_krum(exact, f, 2), rows)


@pytest.mark.parametrize("f", [0, 1, 2, 3])
@pytest.mark.parametrize("seed", range(8))
def test_bulyan(f, seed):
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(4 * f + 3 + seed, 7))
    rows[:f] *= -10
    close(bulyan(reports(rows), f), by_hand_bulyan(rows, f), rows)


@given(matrices(), st.floats(0.01, 100), st.integers(1, 5), st.booleans())
def test_centred_clipping(rows, tau, iterations, begun):
    exact = rows.astype(np.float64)
    centre = exact.mean(0) * 0.5 if begun else None
    tau *= float(np.abs(rows).max()) or 1.0
    ours = centred_clipping(reports(rows), tau, iterations, centre)
    close(ours, by_hand_clipping(exact, tau, iterations, centre), rows)


@given(matrices(), st.integers(0, 2**32))
@settings(deadline=None)
def test_no_point_is_nearer_to_all_reports_than_the_geometric_median(rows, seed):
    exact = rows.astype(np.float64)
    scale = float(np.abs(exact).max()) or 1.0
    found = geometric_median(reports(rows), nu=1e-9 * scale)
    least = sum_of_distances(found, exact)
    rng = np.random.default_rng(seed)
    for size in (1.0, 1e-1, 1e-2, 1e-3):
        for step in rng.normal(size=(5, rows.shape[1])):
            other = sum_of_distances(found + size * scale * step, exact)
            assert least <= other * (1 + 1e-6) + 1e-6 * scale


def test_the_geometric_median_of_a_line_is_its_middle():
    found = geometric_median(reports([[0.0, 0.0], [1.0, 1.0], [50.0, 50.0]]), 1e-6)
    assert found == pytest.approx([1, 1], abs=1e-3)


RULES = {
    "median": median,
    "trimmed_mean": lambda r: trimmed_mean(r, 0.2),
    "krum": lambda r: krum(r, 2),
    "multi_krum": lambda r: multi_krum(r, 2),
    "bulyan": lambda r: bulyan(r, 2),
    "centred_clipping": lambda r: centred_clipping(r, 3.0, 10),
    "geometric_median": lambda r: geometric_median(r, 1e-6),
}


@pytest.mark.parametrize("name", RULES)
def test_two_liars_of_eleven_move_the_result_little(name):
    rng = np.random.default_rng(4)
    honest = 1.0 + 0.1 * rng.normal(size=(9, 50))
    rows = np.concatenate([honest, -10 * honest[:2]])
    found = np.linalg.norm(RULES[name](reports(rows)) - honest.mean(0))
    assert found < 0.25 * np.linalg.norm(honest.mean(0))
    assert found < 0.2 * np.linalg.norm(rows.mean(0) - honest.mean(0))


@pytest.mark.parametrize("name", RULES)
def test_narrow_slices_give_what_wide_ones_give(name, monkeypatch):
    rows = np.random.default_rng(5).normal(size=(11, 200)).astype(np.float32)
    whole = RULES[name](reports(rows))
    monkeypatch.setattr(slices, "_BYTES", 8 * 11 * 17)
    np.testing.assert_allclose(RULES[name](reports(rows)), whole, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
@given(order=st.permutations(range(11)))
def test_coordinate_rules_depend_on_the_set_of_reports_alone(name, order):
    rows = np.random.default_rng(6).normal(size=(11, 20)).astype(np.float32)
    assert RULES[name](reports(rows[list(order)])).tobytes() == RULES[name](reports(rows)).tobytes()


@pytest.mark.parametrize(("count", "size"), [(10, 2), (11, 2), (7, 3), (4, 5)])
def test_buckets_hold_each_report_once(count, size):
    rows = np.random.default_rng(count).normal(size=(count, 30))
    buckets = Bucketed(reports(rows), size)
    means = buckets.columns(0, 30)
    assert means.shape == (math.ceil(count / size), 30) == (buckets.count, 30)
    sizes = [size] * (count // size) + ([count % size] if count % size else [])
    np.testing.assert_allclose(np.array(sizes) @ means, rows.sum(0), atol=1e-12)
    np.testing.assert_array_equal(means[:, 3:8], buckets.columns(3, 8))
    for mean, number in zip(means, sizes, strict=True):
        assert any(
            np.allclose(mean, rows[list(some)].mean(0))
            for some in itertools.combinations(range(count), number)
        )


def test_the_same_reports_come_into_the_same_buckets_and_others_into_others():
    rows = np.random.default_rng(0).normal(size=(40, 3))
    once, again = (Bucketed(reports(rows), 2).columns(0, 3) for _ in range(2))
    np.testing.assert_array_equal(once, again)
    other = Bucketed(reports(rows + 1e-9), 2).columns(0, 3)
    assert abs(other - once).max() > 1e-3


def test_memory_is_that_of_a_slice_and_a_vector():
    count, elements = 300, 100_000

    class Drawn:
        def __init__(self):
            self.count, self.elements = count, elements

        def columns(self, start, stop):
            return np.random.default_rng(start).normal(size=(count, stop - start)).astype(np.float32)

    for rule in RULES.values():
        tracemalloc.start()
        rule(Drawn())
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200e6  # all reports as float64 take 240 MB


LEAST = {
    "median": ({}, 1),
    "trimmed_mean": ({"beta": 0.1}, 10),
    "krum": ({"f": 3}, 9),
    "multi_krum": ({"f": 3}, 9),
    "bulyan": ({"f": 3}, 15),
    "centred_clipping": ({}, 1),
    "geometric_median": ({}, 1),
}


@pytest.mark.parametrize("name", LEAST)
def test_each_rule_is_a_strategy_that_knows_how_many_reports_it_needs(name):
    config, least = LEAST[name]
    assert name in strategy_names()
    assert strategy(name, **config).least_reports == least
    assert strategy(name, **config, bucketing=2).least_reports == 2 * least


def test_multi_krum_needs_as_many_as_it_averages():
    assert strategy("multi_krum", f=1, m=8).least_reports == 9


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("krum", {}),
        ("krum", {"f": -1}),
        ("trimmed_mean", {"beta": 0.5}),
        ("median", {"f": 1}),
        ("median", {"bucketing": 1}),
        ("centred_clipping", {"tau": 0.0}),
    ],
)
def test_impossible_settings_are_refused(name, wrong):
    with pytest.raises(ConfigError, match="server_config: strategy: "):
        strategy(name, **wrong)


def test_centred_clipping_begins_where_the_last_cycle_ended():
    made = strategy("centred_clipping", (((3,), "float32"),), tau=1.0, iterations=1)
    rows = reports(np.full((4, 3), 10.0))
    first = made.combine(rows, ServerState())
    again = made.combine(rows, ServerState({"centre": [first]}))
    assert np.linalg.norm(first) == pytest.approx(1.0)
    assert np.linalg.norm(again) == pytest.approx(2.0)
