"""Strategies that average by a robust rule: what they make of reports, their settings, and refusals."""

import numpy as np
import pytest

from fedplan.errors import ConfigError
from fedplan.federation import ServerState, Update, next_model, with_trained
from fedplan.federation.robust import Buckets, MatrixReports, fingerprint
from fedplan.plan import Role
from fedplan.wire import Summary
from tests.federation.made import LAYOUT, random_diffs, random_updates, strategy, wire
from tests.federation.robust import papers

RULES = {
    "median": ({}, papers.median),
    "trimmed_mean": ({}, lambda x: papers.trimmed_mean(x, 2)),  # a fifth of 11
    "krum": ({"f": 3}, lambda x: papers.krum(x, 3)),
    "multi_krum": ({"f": 3}, lambda x: papers.multi_krum(x, 3)),
    "bulyan": ({"f": 2}, lambda x: papers.bulyan(x, 2)),
    "centred_clipping": ({}, papers.centred_clipping),
    "geometric_median": ({}, papers.geometric_median),
}
COUNT = 11

every_rule = pytest.mark.parametrize("name", RULES)


def flat(tensors):
    return np.concatenate([tensor.array.astype(np.float64).ravel() for tensor in tensors])


def matrix(updates):
    return np.array([flat(update.tensors) for update in updates])


def after(made, updates, model):
    total = made.nothing()
    for update in updates:
        made.add(total, update)
    vector = made.combine(MatrixReports(matrix(updates)), ServerState())
    return next_model(made, model, with_trained(total.average(), made.setting, vector), ServerState())[0]


@every_rule
def test_the_model_moves_by_what_the_rule_combines(name):
    settings, rule = RULES[name]
    updates, model = random_updates(COUNT), random_diffs(1, seed=9)[0]
    for rate in (1.0, 0.5):
        moved = after(strategy(name, lr=rate, **settings), updates, model)
        expected = flat(model) - rate * rule(matrix(updates))
        np.testing.assert_allclose(flat(moved), expected, rtol=1e-6, atol=1e-6)


def test_centred_clipping_begins_where_the_last_cycle_ended():
    made = strategy("centred_clipping", (((3,), "float32"),), tau=1.0, iterations=1)
    rows = MatrixReports(np.full((4, 3), 10.0))
    first = made.combine(rows, ServerState())
    again = made.combine(rows, ServerState({"centre": [first]}))
    assert np.linalg.norm(first) == pytest.approx(1.0)
    assert np.linalg.norm(again) == pytest.approx(2.0)


@every_rule
def test_buckets_are_what_the_rule_sees(name):
    settings, rule = RULES[name]
    rows = matrix(random_updates(2 * COUNT))
    buckets = Buckets(MatrixReports(rows), 2, fingerprint(MatrixReports(rows)))
    made = strategy(name, bucketing=2, **settings).combine(MatrixReports(rows), ServerState())
    np.testing.assert_allclose(made, rule(buckets.columns(0, rows.shape[1])), rtol=1e-6, atol=1e-6)


@every_rule
def test_samples_count_nothing(name):
    settings, _ = RULES[name]
    layout = (((4,), "float32"), ((2,), "float32"))
    made = strategy(name, layout, (Role.TRAINED, Role.AVERAGED), **settings)
    total = made.nothing()
    for samples in (1.0, 1e9):
        made.add(total, Update([wire(np.zeros(4)), wire([samples, 1.0])], Summary(samples=samples)))
    np.testing.assert_array_equal(total.average().tensors[1], [(1 + 1e9) / 2, 1.0])


def test_settings_reach_the_rule():
    rows = matrix(random_updates(COUNT))
    expected = {
        "trimmed_mean": [
            ({"beta": 0.4}, papers.trimmed_mean(rows, 4)),
            ({"f": 5}, papers.trimmed_mean(rows, 5)),
        ],
        "multi_krum": [({"f": 1, "m": 2}, papers.multi_krum(rows, 1, 2))],
        "centred_clipping": [({"tau": 0.5, "iterations": 2}, papers.centred_clipping(rows, 0.5, 2))],
        "geometric_median": [({"nu": 3.0, "iterations": 9}, papers.geometric_median(rows, 3.0, 9))],
    }
    for name, cases in expected.items():
        for settings, values in cases:
            made = strategy(name, **settings).combine(MatrixReports(rows), ServerState())
            np.testing.assert_allclose(made, values, rtol=1e-6, atol=1e-6)


def test_a_share_is_the_number_that_is_written():
    made = strategy("trimmed_mean", beta=0.29)
    rows = np.random.default_rng(0).normal(size=(100, 3))  # 0.29 * 100 is 28.999… in binary numbers
    np.testing.assert_allclose(
        made.combine(MatrixReports(rows), ServerState()), papers.trimmed_mean(rows, 29)
    )


@pytest.mark.parametrize(
    ("name", "settings", "least"),
    [
        ("median", {}, 3),
        ("trimmed_mean", {}, 5),
        ("trimmed_mean", {"beta": 0.3}, 4),
        ("trimmed_mean", {"f": 4}, 9),
        ("krum", {"f": 3}, 9),
        ("multi_krum", {"f": 3}, 9),
        ("multi_krum", {"f": 3, "m": 10}, 13),
        ("bulyan", {"f": 3}, 15),
        ("bulyan", {"f": 3, "bucketing": 2}, 29),
        ("median", {"bucketing": 3}, 7),
        ("centred_clipping", {}, 3),
        ("centred_clipping", {"tau": 1.0}, 1),
        ("geometric_median", {}, 3),
    ],
)
def test_the_least_reports_are_enough_and_one_less_is_not(name, settings, least):
    made = strategy(name, LAYOUT, **settings)
    assert made.least_reports == least
    assert made.uniform
    assert not made.streams
    rows = matrix(random_updates(least))
    assert np.isfinite(made.combine(MatrixReports(rows), ServerState())).all()


@pytest.mark.parametrize(
    ("name", "settings", "reports", "advice"),
    [
        ("krum", {"f": 3}, 5, "set 'f' to at most 1"),
        ("krum", {"f": 3}, 8, "set 'f' to at most 2"),
        ("krum", {"f": 3}, 4, "set 'f' to at most 0"),
        ("krum", {"f": 3}, 2, ""),
        ("krum", {"f": 3, "bucketing": 2}, 10, "set 'f' to at most 1"),
        ("multi_krum", {"f": 3}, 5, "set 'f' to at most 1"),
        ("multi_krum", {"f": 1, "m": 9}, 8, "set 'm' to at most 7"),
        ("bulyan", {"f": 3}, 13, "set 'f' to at most 2"),
        ("trimmed_mean", {"f": 3}, 4, "set 'f' to at most 1"),
        ("trimmed_mean", {}, 4, "set 'f' to at most 1"),
        ("trimmed_mean", {}, 2, ""),
        ("centred_clipping", {}, 2, "set 'tau'"),
        ("median", {}, 2, ""),
    ],
)
def test_it_is_said_what_fewer_reports_would_do_for(name, settings, reports, advice):
    made = strategy(name, **settings)
    assert made.advice(reports) == advice
    if advice:
        key, most = advice.split("'")[1], advice.split()[-1]
        settings = {**settings, key: int(most) if most.isdigit() else 1.0}
        assert strategy(name, **settings).least_reports <= reports


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("krum", {}, "strategy: 'f': Field required"),
        ("krum", {"f": -1}, "'f': Input should be greater than or equal to 0"),
        ("krum", {"f": 1, "m": 2}, "'m' is not a key of it"),
        ("multi_krum", {"f": 1, "m": 0}, "'m': Input should be greater than or equal to 1"),
        ("bulyan", {}, "'f': Field required"),
        ("trimmed_mean", {"beta": 0.5}, "'beta': Input should be less than 0.5"),
        ("trimmed_mean", {"beta": 0.0}, "'beta': Input should be greater than 0"),
        ("trimmed_mean", {"beta": 0.1, "f": 2}, "'beta' and 'f' say the same in two ways"),
        ("median", {"bucketing": 1}, "'bucketing': Input should be greater than or equal to 2"),
        ("centred_clipping", {"tau": 0.0}, "'tau': Input should be greater than 0"),
        ("centred_clipping", {"iterations": 0}, "'iterations': Input should be greater than or equal to 1"),
        ("geometric_median", {"nu": 0.0}, "'nu': Input should be greater than 0"),
        ("geometric_median", {"iterations": 0}, "'iterations': Input should be"),
    ],
)
def test_settings_that_cannot_work_are_refused(name, settings, message):
    with pytest.raises(ConfigError, match=message):
        strategy(name, **settings)
