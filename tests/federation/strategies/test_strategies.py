"""Each strategy against an independent statement of it, written from its paper, over several cycles."""

import math
import sys

import numpy as np
import pytest

from fedplan.errors import AggregationError, ConfigError
from fedplan.federation import (
    Contribution,
    ServerState,
    StrategyConfig,
    StrategyKind,
    Told,
    Update,
    lacking,
    next_model,
    register_strategy,
    strategy_names,
    strategy_of,
)
from fedplan.federation.strategies import registry
from fedplan.federation.strategies.averaging import FedAvgConfig, fedavg
from fedplan.plan import Role
from fedplan.wire import MetricMean, Summary
from tests.federation.made import LAYOUT, random_diffs, random_updates, setting, strategy, wire

CYCLES, WORKERS = 4, 6


def cycles(made, *, layout=LAYOUT, roles=None, stored=True):
    """A few cycles of a strategy: the models, from the first one on, and what was reported in each cycle."""
    models, reported, state = [random_diffs(1, layout, seed=99)[0]], [], ServerState()
    for cycle in range(CYCLES):
        updates = random_updates(WORKERS, layout, seed=10 * cycle)
        total = made.nothing()
        for update in updates:
            made.add(total, update)
        model, state = next_model(made, models[-1], total.average(), state)
        if stored:
            state = ServerState.parse(state.serialize())
        models.append(model)
        reported.append(updates)
    return models, reported


def flat(tensors):
    return np.concatenate([tensor.array.astype(np.float64).ravel() for tensor in tensors])


def diffs_and_weights(updates):
    return np.array([flat(u.tensors) for u in updates]), np.array([u.summary.samples for u in updates])


def check(models, reported, rule):
    """`rule`: (x, diffs as rows, updates) → the next x; it may remember things."""
    x = flat(models[0])
    for model, updates in zip(models[1:], reported, strict=True):
        x = rule(x, *diffs_and_weights(updates), updates)
        np.testing.assert_allclose(flat(model), x, rtol=1e-6, atol=1e-6)


def test_fedavg_subtracts_the_weighted_mean():
    check(*cycles(strategy("fedavg")), lambda x, d, w, _: x - np.average(d, 0, w))


def test_fedavg_with_a_servers_learning_rate():
    check(*cycles(strategy("fedavg", lr=0.5)), lambda x, d, w, _: x - 0.5 * np.average(d, 0, w))


def test_a_name_alone_is_a_strategy_and_fedavg_is_the_default():
    assert strategy_of(setting({"strategy": "fedadam"})).name == "fedadam"
    assert strategy_of(setting()).name == "fedavg"


def test_fedavgm():
    v = 0.0

    def rule(x, d, w, _):
        nonlocal v
        v = 0.9 * v + np.average(d, 0, w)
        return x - v

    check(*cycles(strategy("fedavgm")), rule)


SECOND_MOMENTS = {
    "fedadagrad": lambda v, g: v + g**2,
    "fedadam": lambda v, g: 0.99 * v + 0.01 * g**2,
    "fedyogi": lambda v, g: v - 0.01 * g**2 * np.sign(v - g**2),
}


@pytest.mark.parametrize("name", SECOND_MOMENTS)
def test_the_adaptive_ones_with_the_papers_constants(name):
    m, v, beta1 = 0.0, 1e-6, 0.0 if name == "fedadagrad" else 0.9

    def rule(x, d, w, _):
        nonlocal m, v
        g = -np.average(d, 0, w)  # the paper's Δ points from the model to the workers'
        m = beta1 * m + (1 - beta1) * g
        v = SECOND_MOMENTS[name](v, g)
        return x + 0.05 * m / (np.sqrt(v) + 1e-3)

    check(*cycles(strategy(name, lr=0.05)), rule)


def test_fednova_normalises_by_steps():
    def rule(x, d, w, updates):
        tau, p = np.array([u.summary.steps for u in updates]), w / w.sum()
        return x - (p @ tau) * (p / tau) @ d

    made = strategy("fednova")
    check(*cycles(made), rule)
    assert lacking(made, Summary(samples=3.0)) == [Told.STEPS]
    assert not lacking(made, Summary(steps=3))


def test_fednova_counts_how_often_momentum_repeats_a_gradient():
    def gradients(steps):
        """SGD with momentum over gradients of one: how far it moves with a learning rate of one."""
        moved = velocity = 0.0
        for _ in range(steps):
            velocity = 0.9 * velocity + 1.0
            moved += velocity
        return moved

    def rule(x, d, w, updates):
        a, p = np.array([gradients(u.summary.steps) for u in updates]), w / w.sum()
        return x - (p @ a) * (p / a) @ d

    check(*cycles(strategy("fednova", momentum=0.9)), rule)


def test_qfedavg():
    def rule(x, d, w, updates):
        q, lipschitz = 0.2, 1 / 0.1
        loss = np.array([u.summary.metrics["loss"].value for u in updates])
        delta = loss[:, None] ** q * lipschitz * d
        h = q * loss ** (q - 1) * (lipschitz**2) * (d**2).sum(1) + lipschitz * loss**q
        return x - (w @ delta) / (w @ h)

    made = strategy("qfedavg", client={"lr": 0.1})
    check(*cycles(made), rule)
    assert lacking(made, Summary(samples=3.0)) == [Told.LOSS]


def test_qfedavg_takes_the_loss_of_the_model_as_received_when_it_is_told():
    made = strategy("qfedavg", client={"lr": 0.1})
    told = Summary(1.0, 1, {"loss": MetricMean(9.0, 1.0)}, {"loss": MetricMean(2.0, 1.0)})
    factor = made.prepare(Update(random_diffs(1)[0], told)).factor
    assert factor == pytest.approx(10 * 2.0**0.2)


def test_qfedavg_without_a_learning_rate_is_refused():
    with pytest.raises(ConfigError, match="qfedavg needs the workers' learning rate"):
        strategy("qfedavg")


def test_scaffold_adds_control_variates_by_the_share_of_workers():
    layout = (((5,), "float32"), ((5,), "float32"))
    made = strategy("scaffold", layout, (Role.TRAINED, Role.CONTROL), population=20)

    def rule(x, d, _, __):
        mean = d.mean(0)
        return x - np.concatenate([mean[:5], WORKERS / 20 * mean[5:]])

    check(*cycles(made, layout=layout, roles=(Role.TRAINED, Role.CONTROL)), rule)


def test_scaffold_needs_control_variates_and_a_population():
    with pytest.raises(ConfigError, match="needs a model that holds control variates"):
        strategy("scaffold", population=3)
    with pytest.raises(ConfigError, match="'population': Field required"):
        strategy("scaffold")
    with pytest.raises(ConfigError, match="'population': Field required"):
        strategy("feddyn", alpha=0.1)


def test_feddyn():
    h, alpha, m = 0.0, 0.1, 50

    def rule(x, d, _, __):
        nonlocal h
        workers = x - d
        h = h - alpha / m * (workers - x).sum(0)
        return workers.mean(0) - h / alpha

    check(*cycles(strategy("feddyn", population=50, alpha=0.1)), rule)


def test_fedbuff_lets_stale_reports_count_less():
    made = strategy("fedbuff", k=3)
    diffs = random_diffs(3)
    total = made.nothing()
    for staleness, diff in enumerate(diffs):
        update = Update(diff, staleness=staleness)
        made.add(total, update)
    model = random_diffs(1, seed=5)[0]
    after, _ = next_model(made, model, total.average(), ServerState())
    expected = flat(model) - sum(flat(diff) / math.sqrt(1 + s) for s, diff in enumerate(diffs)) / 3
    np.testing.assert_allclose(flat(after), expected, rtol=1e-6, atol=1e-6)
    assert made.closes_at == 3


@pytest.mark.parametrize("key", ["min_diffs", "max_diffs", "min_workers", "cycle_length"])
def test_fedbuffs_k_is_the_only_threshold(key):
    with pytest.raises(ConfigError, match=f"'{key}' stands beside the strategy fedbuff"):
        strategy("fedbuff", server={key: 3})


@pytest.mark.parametrize("name", ["fedavg", "fedadam"])
def test_a_norm_is_bounded_before_it_is_added(name):
    made = strategy(name, clip_norm=1.5)
    update = random_updates(1)[0]
    norm = np.linalg.norm(flat(update.tensors))
    assert made.prepare(update).factor == pytest.approx(1.5 / norm, rel=1e-12)
    assert made.prepare(Update([wire(np.full((3, 4), 1e-3)), wire(np.zeros(4)), wire(0.0)])).factor == 1.0


def test_qfedavg_computes_with_the_diff_as_it_is_clipped():
    made = strategy("qfedavg", (((4,), "float32"),), client={"lr": 0.1}, clip_norm=1.0)
    total, told = made.nothing(), Summary(1.0, metrics={"loss": MetricMean(1.0, 1.0)})
    diffs = [0.01, 0.01, 0.01, 100.0]
    for value in diffs:
        made.add(total, Update([wire([value] * 4)], told))
    after, _ = next_model(made, [wire([0.0] * 4)], total.average(), ServerState())
    clipped = np.minimum(diffs, 0.5)  # four of 0.5 have a norm of 1
    h = 0.2 * 10**2 * 4 * clipped**2 + 10
    np.testing.assert_allclose(after[0].array, [-10 * clipped.sum() / h.sum()] * 4, rtol=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "median"])
def test_no_workers_metrics_count_more_than_the_owner_allows(name):
    made = strategy(name, server={"max_weight": 10.0})
    total = made.nothing()
    for accuracy, samples in ((1.0, 1e100), (0.1, 30.0), (0.1, 10.0)):
        told = Summary(samples, evaluation={"accuracy": MetricMean(accuracy, samples)})
        made.add(total, Update(random_diffs(1)[0], told))
    assert total.metrics["accuracy"].mean == MetricMean(pytest.approx(0.4), 30.0)


@pytest.mark.parametrize("size", [1e-300, 1e-160, 1.0, 1e160, 1e270])
def test_a_norm_is_what_it_is_however_large_or_small_its_squares_would_be(size):
    layout = (((2,), "float64"), ((), "float64"))
    diff = [wire([3 * size, -4 * size], "float64"), wire(12 * size, "float64")]
    assert setting(layout=layout).norm(diff) == pytest.approx(13 * size, rel=1e-15)
    made = strategy("fedavg", layout, clip_norm=1.3e-300)
    assert made.prepare(Update(diff)).factor == pytest.approx(1e-301 / size, rel=1e-12)
    assert setting(layout=layout).norm([wire([0.0, 0.0], "float64"), wire(0.0, "float64")]) == 0.0


def test_running_statistics_and_counters_are_left_to_the_mean_and_the_maximum():
    layout = (((4,), "float32"), ((4,), "float32"), ((), "int64"))
    roles = (Role.TRAINED, Role.AVERAGED, Role.COUNTER)
    made = strategy("fedadam", layout, roles, clip_norm=0.1)
    updates = [
        Update([wire([1.0] * 4), wire([0.5, 0.25, 0.0, v]), wire(-n, "int64")], Summary(samples=2.0))
        for n, v in ((3, 0.5), (7, 1.0))
    ]
    total = made.nothing()
    for update in updates:
        made.add(total, update)
    before = [wire([0.0] * 4), wire([1.0] * 4), wire(10, "int64")]
    _, variance, counter = next_model(made, before, total.average(), ServerState())[0]
    np.testing.assert_array_equal(variance.array, [0.5, 0.75, 1.0, 0.25])
    assert counter.array == 17


@pytest.mark.parametrize("name", ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"])
def test_no_variance_becomes_negative(name):
    """Workers' running variances are between 0 and the model's, down to the smallest numbers."""
    layout, roles = (((1000,), "float32"),) * 2, (Role.TRAINED, Role.AVERAGED)
    made = strategy(name, layout, roles)
    rng = np.random.default_rng(1)
    model = [wire(rng.normal(size=1000)), wire(10.0 ** rng.uniform(-30, 2, 1000))]
    state = ServerState()
    for _ in range(5):
        total = made.nothing()
        for samples in (3.0, 7.0, None):
            trained = model[1].array * np.float32(10.0) ** rng.uniform(-40, 0, 1000).astype(np.float32)
            diff = [wire(rng.normal(size=1000)), wire(model[1].array - trained)]
            made.add(total, Update(diff, Summary(samples=samples)))
        model, state = next_model(made, model, total.average(), state)
        assert (model[1].array >= 0).all()


def test_a_model_that_would_overflow_is_refused():
    made = strategy("fedavg", (((1,), "float32"),))
    total = made.nothing()
    made.add(total, Update([wire([-3e38])]))
    with pytest.raises(AggregationError, match="the changed model is not usable"):
        next_model(made, [wire([3e38])], total.average(), ServerState())


def test_an_unknown_name_tells_the_known_ones():
    with pytest.raises(
        ConfigError, match=r"none with the name 'fedsgd'; there are bulyan, centred_clipping, fed"
    ):
        strategy("fedsgd")
    with pytest.raises(ConfigError, match="FedProx works on the worker's side"):
        strategy("fedprox")
    with pytest.raises(ConfigError, match="has no 'name'; there are bulyan"):
        strategy_of(setting({"strategy": {"lr": 1.0}}))


def test_an_unknown_key_or_a_wrong_value_is_refused():
    with pytest.raises(
        ConfigError, match="strategy: 'beta3' is not a key of it; the keys are name, clip_norm"
    ):
        strategy("fedadam", beta3=1.0)
    with pytest.raises(ConfigError, match="strategy: 'beta1': Input should be less than 1"):
        strategy("fedadam", beta1=1.0)
    with pytest.raises(ConfigError, match="strategy: 'clip_norm': Input should be greater than 0"):
        strategy("fedavg", clip_norm=0.0)


def test_a_name_is_given_once():
    with pytest.raises(ConfigError, match="there is a strategy 'fedavg' already"):
        register_strategy(StrategyKind("fedavg", StrategyConfig, fedavg))
    register_strategy(StrategyKind("fedavg", FedAvgConfig, fedavg))  # the very same is no other
    assert "fedavg" in strategy_names()


@pytest.fixture
def _installed(tmp_path, monkeypatch):
    """A distribution with entry points: one is a kind of strategy, the other a module that registers one."""
    entries = "[fedplan.strategies]\nkind = fedplan_own:KIND\nmodule = fedplan_own_module\n"
    kind = "StrategyKind({!r}, FedAvgConfig, fedavg)"
    files = {
        "fedplan_own-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: fedplan-own\nVersion: 1.0\n",
        "fedplan_own-1.0.dist-info/entry_points.txt": entries,
        "fedplan_own.py": f"{IMPORTS}KIND = {kind.format('of a kind')}\n",
        "fedplan_own_module.py": f"{IMPORTS}register_strategy({kind.format('of a module')})\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "_KINDS", dict(registry._KINDS))
    registry.broken_plugins.cache_clear()
    yield
    registry.broken_plugins.cache_clear()
    for name in ("fedplan_own", "fedplan_own_module"):
        sys.modules.pop(name, None)


IMPORTS = """
from fedplan.federation import StrategyKind, register_strategy
from fedplan.federation.strategies.averaging import FedAvgConfig, fedavg
"""


@pytest.mark.usefixtures("_installed")
def test_packages_name_strategies_in_their_entry_points():
    assert {"of a kind", "of a module", "fedavg"} <= set(strategy_names())


def test_the_grid_measures_updates_when_it_is_asked_to():
    made = strategy("fedavg", server={"metrics": ["update_norm"]})
    updates = random_updates(3)
    total = made.nothing()
    for update in updates:
        made.add(total, update)
    norms, weights = [np.linalg.norm(flat(u.tensors)) for u in updates], [u.summary.samples for u in updates]
    assert total.average().metrics["update_norm"].value == pytest.approx(np.average(norms, weights=weights))
    with pytest.raises(ConfigError, match=r"metrics: there is no 'norm'; there are .*update_norm"):
        strategy("fedavg", server={"metrics": ["norm"]})


def test_an_update_counts_unchanged_where_nothing_is_said():
    assert strategy("fedavg").prepare(random_updates(1)[0]) == Contribution()


class TestNumbersThatCannotBeComputed:
    def test_are_found_before_an_update_is_added(self):
        made = strategy("qfedavg", q=5, lr=0.1)
        told = Summary(metrics={"loss": MetricMean(1e100, 1.0)})
        with pytest.raises(AggregationError, match="qfedavg cannot compute with it"):
            made.check(Update(random_diffs(1)[0], told))
        for update in random_updates(3):
            made.check(update)

    def test_fail_the_cycle_and_not_the_grid(self):
        made = strategy("qfedavg", q=50, lr=0.1)
        total = made.nothing()
        told = Summary(metrics={"loss": MetricMean(0.0, 1.0)})
        made.add(total, Update(random_diffs(1)[0], told))
        with pytest.raises(AggregationError, match=r"cannot compute the model: .*division by zero"):
            next_model(made, random_diffs(1)[0], total.average(), ServerState())
