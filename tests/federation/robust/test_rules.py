"""Each rule against an independent statement of it, written from its paper."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedplan.errors import AggregationError
from fedplan.federation import robust
from fedplan.federation.robust import MatrixReports, distances, slices
from tests.federation.robust import papers

RULES = {
    # name: (settings for a given number of reports, least number)
    "median": (lambda n: {}, 1),
    "trimmed_mean": (lambda n: {"trimmed": (n - 1) // 2}, 1),
    "krum": (lambda n: {"f": (n - 3) // 2}, 5),
    "multi_krum": (lambda n: {"f": (n - 3) // 2}, 5),
    "bulyan": (lambda n: {"f": (n - 3) // 4}, 7),
    "centred_clipping": (lambda n: {}, 1),
    "geometric_median": (lambda n: {}, 1),
}

every_rule = pytest.mark.parametrize("name", RULES)


def combined(name, rows, **options):
    return getattr(robust, name)(MatrixReports(rows), **options)


def expected(name, rows, **options):
    return getattr(papers, name)(rows.astype(np.float64), **options)


def random_rows(count, elements, seed=0, dtype=np.float32):
    """Diffs that have much in common, as those of one training have."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=elements) + 0.5 * rng.normal(size=(count, elements))).astype(dtype)


@every_rule
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_rule_is_what_its_paper_says(name, data):
    options, least = RULES[name]
    count = data.draw(st.integers(least, least + 20), "count")
    elements = data.draw(st.integers(1, 70), "elements")
    dtype = data.draw(st.sampled_from([np.float32, np.float64]), "dtype")
    scale = data.draw(st.sampled_from([1e-20, 1e-3, 1.0, 1e15]), "scale")
    rows = random_rows(count, elements, data.draw(st.integers(0, 2**32), "seed"), dtype) * dtype(scale)
    told = options(count)
    if "f" in told:
        told["f"] = data.draw(st.integers(0, told["f"]), "f")
    if "trimmed" in told:
        told["trimmed"] = data.draw(st.integers(0, told["trimmed"]), "trimmed")
    made = combined(name, rows, **told)
    assert made.dtype == np.float64
    np.testing.assert_allclose(made, expected(name, rows, **told), rtol=1e-6, atol=1e-6 * scale)


@every_rule
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_ties_duplicates_and_constant_columns_change_nothing(name, data):
    """Of small whole numbers all distances are exact, and of equally good reports the first is taken."""
    options, least = RULES[name]
    count, elements = data.draw(st.integers(least, least + 12)), data.draw(st.integers(1, 6))
    numbers = st.lists(st.integers(-2, 2), min_size=elements, max_size=elements)
    rows = np.array(data.draw(st.lists(numbers, min_size=count, max_size=count)), np.float32)
    rows[:, 0] = 3
    rows[-1] = rows[0]
    told = options(count)
    np.testing.assert_allclose(combined(name, rows, **told), expected(name, rows, **told), atol=1e-6)


@every_rule
def test_equal_reports_are_their_own_combination(name):
    rows = np.tile(random_rows(1, 40), (11, 1))
    np.testing.assert_allclose(combined(name, rows, **RULES[name][0](11)), rows[0], rtol=1e-12)


@every_rule
@pytest.mark.parametrize("elements", [1, 15, 16, 17, 100, 513, 1200])
def test_slices_of_every_size_give_equal_bits(name, elements, monkeypatch):
    rows = random_rows(11, elements)
    made = set()
    for size in (1, 16 * 11 * 4, 3 * 16 * 11 * 4, 50 * 16 * 11 * 4, 1 << 20):
        monkeypatch.setattr(slices, "SLICE_BYTES", size)
        made.add(combined(name, rows, **RULES[name][0](11)).tobytes())
    assert len(made) == 1


@pytest.mark.parametrize("name", ["krum", "multi_krum", "bulyan"])
@pytest.mark.parametrize("strip", [1, 3 * 23 * 8])
def test_distances_in_strips_and_blocks_select_the_same(name, strip, monkeypatch):
    rows = random_rows(23, 30)
    whole = combined(name, rows, f=3)
    monkeypatch.setattr(distances, "_BLOCK_NUMBERS", 1)
    monkeypatch.setattr(distances, "GRAIN", 7)
    monkeypatch.setattr(distances, "STRIP_BYTES", strip)
    monkeypatch.setattr("fedplan.federation.robust.selection.STRIP_BYTES", strip)
    np.testing.assert_allclose(combined(name, rows, f=3), whole, rtol=1e-15)


@pytest.mark.parametrize("name", ["median", "trimmed_mean"])
def test_a_rule_by_coordinates_is_a_function_of_the_set(name):
    rows = random_rows(12, 50)
    options = RULES[name][0](12)
    shuffled = rows[np.random.default_rng(1).permutation(12)]
    assert combined(name, rows, **options).tobytes() == combined(name, shuffled, **options).tobytes()


@pytest.mark.parametrize("name", ["krum", "multi_krum", "centred_clipping", "geometric_median"])
def test_another_order_of_the_reports_changes_no_more_than_last_bits(name):
    rows = random_rows(12, 50)
    options = {"f": 2} if "f" in RULES[name][0](12) else {}
    shuffled = rows[np.random.default_rng(1).permutation(12)]
    np.testing.assert_allclose(
        combined(name, rows, **options), combined(name, shuffled, **options), rtol=1e-12
    )


@pytest.mark.parametrize("lie", [-10, -1e6, 1e30])
@every_rule
def test_a_fifth_of_the_reports_moves_the_result_no_farther_than_honest_ones_differ(name, lie):
    honest = random_rows(16, 200)
    rows = np.concatenate([honest[:4] * np.float32(lie), honest])
    told = {"trimmed_mean": {"trimmed": 4}, "krum": {"f": 4}, "multi_krum": {"f": 4}, "bulyan": {"f": 4}}
    made = combined(name, rows, **told.get(name, {}))
    mean = honest.astype(np.float64).mean(0)
    spread = np.linalg.norm(honest - mean, axis=1).max()
    assert np.linalg.norm(made - mean) < spread
    assert np.linalg.norm(rows.mean(0) - mean) > 2 * spread  # what a mean would make of it


@pytest.mark.parametrize("far", [1e6, 1e12, 1e30])
@every_rule
def test_one_far_report_does_not_hide_others_that_lie_less(name, far):
    """Seen from the mean, which lies far away too, all but one would be the same point."""
    honest = random_rows(16, 200)
    rows = np.concatenate([honest[:1] * np.float32(far), honest[1:4] * np.float32(-10), honest])
    told = {"trimmed_mean": {"trimmed": 4}, "krum": {"f": 4}, "multi_krum": {"f": 4}, "bulyan": {"f": 4}}
    made = combined(name, rows, **told.get(name, {}))
    mean = honest.astype(np.float64).mean(0)
    assert np.linalg.norm(made - mean) < np.linalg.norm(honest - mean, axis=1).max()


@pytest.mark.parametrize("seed", range(3))
@every_rule
def test_values_whose_squares_no_float64_holds_are_only_far_away(name, seed):
    rows = random_rows(15, 3000, seed, np.float64)
    rows[[2, 5, 6]] *= [[1e307], [-1e200], [1e300]]
    rows[6, ::2] *= -1
    told = {"trimmed_mean": {"trimmed": 3}, "krum": {"f": 3}, "multi_krum": {"f": 3}, "bulyan": {"f": 3}}
    made = combined(name, rows, **told.get(name, {}))
    mean = np.delete(rows, [2, 5, 6], 0).mean(0)
    assert np.linalg.norm(made - mean) < 2 * np.linalg.norm(rows[0] - mean)


def test_reports_far_from_zero_are_told_apart_as_well():
    """Distances that come from products would lose all their digits without the median in between."""
    rng = np.random.default_rng(0)
    rows = 1e9 + rng.normal(size=(15, 50))
    for f in (1, 6):
        np.testing.assert_array_equal(combined("krum", rows, f=f), papers.krum(rows, f))


def test_centred_clipping_goes_from_a_centre_within_a_radius():
    rows, centre = random_rows(10, 30), np.linspace(-1, 1, 30)
    for tau in (0.01, 3.0, None):
        made = combined("centred_clipping", rows, tau=tau, iterations=2, centre=centre)
        np.testing.assert_allclose(made, papers.centred_clipping(rows, tau, 2, centre), rtol=1e-9)
    moved = combined("centred_clipping", rows, tau=0.01, iterations=3)
    assert 0.02 < np.linalg.norm(moved) <= 0.03
    np.testing.assert_array_equal(centre, np.linspace(-1, 1, 30))


def test_the_geometric_median_is_reached_in_more_iterations():
    rows = random_rows(9, 3, dtype=np.float64)
    made = combined("geometric_median", rows, iterations=300)
    pulls = (rows - made) / np.linalg.norm(rows - made, axis=1)[:, None]
    assert np.linalg.norm(pulls.sum(0)) < 1e-6  # the gradient of the sum of distances
    majority = np.concatenate([rows[:1].repeat(6, 0), rows[:5]])
    np.testing.assert_allclose(combined("geometric_median", majority, iterations=50), rows[0], atol=1e-5)


@every_rule
def test_a_model_without_trained_numbers_stays_one(name):
    assert combined(name, np.zeros((11, 0), np.float32), **RULES[name][0](11)).shape == (0,)


@pytest.mark.parametrize(
    ("name", "count", "options", "message"),
    [
        ("trimmed_mean", 4, {"trimmed": 2}, "without 2 values on each side needs at least 5 reports"),
        ("krum", 8, {"f": 3}, "krum with f=3 needs at least 9 reports, and there are 8"),
        ("multi_krum", 8, {"f": 3}, "multi_krum with f=3 needs at least 9"),
        ("multi_krum", 8, {"f": 1, "m": 8}, "multi_krum with f=1 and m=8 needs at least 9"),
        ("bulyan", 10, {"f": 2}, "bulyan with f=2 needs at least 11"),
        ("centred_clipping", 0, {}, "centred_clipping needs at least 1"),
        ("geometric_median", 0, {}, "geometric_median needs at least 1"),
        ("median", 0, {}, "median needs at least 1"),
        ("bulyan", 4097, {"f": 2}, "at most 4096 reports, and there are 4097: set 'max_diffs'"),
    ],
)
def test_what_cannot_be_combined_is_refused(name, count, options, message):
    with pytest.raises(AggregationError, match=message):
        combined(name, np.zeros((count, 3), np.float32), **options)


def test_m_reports_are_averaged():
    rows = random_rows(12, 20)
    for m in (1, 4, 10):
        np.testing.assert_allclose(
            combined("multi_krum", rows, f=2, m=m), papers.multi_krum(rows.astype(float), 2, m), rtol=1e-9
        )
    np.testing.assert_array_equal(combined("multi_krum", rows, f=2, m=1), combined("krum", rows, f=2))
