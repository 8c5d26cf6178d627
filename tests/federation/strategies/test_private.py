"""Differential privacy around strategies: which can have it, and what they then get."""

import numpy as np
import pytest

from fedplan.errors import AggregationError, ConfigError
from fedplan.federation import ServerState, next_model, strategy_of
from fedplan.federation.privacy import CentralGaussian, Clip
from fedplan.plan import Role
from tests.federation.made import LAYOUT, random_diffs, random_updates, setting, strategy, wire

PRIVACY = {"clip": 0.5, "noise_multiplier": 1.0, "cohort": 4, "delta": 1e-5}
KEY = bytes(range(32))
TAKEN = ["fedavg", "fedavgm", "fedadagrad", "fedadam", "fedyogi"]


def private(name="fedavg", server=None, privacy=None, **settings):
    told = {"privacy": PRIVACY | (privacy or {}), **(server or {})}
    return strategy(name, server=told, **settings)


def sum_of(made, updates):
    sums = made.nothing()
    for update in updates:
        made.add(sums, update)
    return sums


def noisy(updates, **privacy):
    """By hand: the diffs clipped and rounded, their sum with noise, over the cohort."""
    told = PRIVACY | privacy
    mechanism = CentralGaussian(Clip(told["clip"]), told["noise_multiplier"], told["cohort"], 17)
    bounded = [mechanism.bounded([np.float64(t.array) for t in update.tensors]) for update in updates]
    mean = [np.mean(arrays, axis=0) for arrays in zip(*bounded, strict=True)]
    return mechanism.released(mean, len(updates), KEY)


class TestAPrivateStrategy:
    def test_subtracts_the_noisy_sum_over_the_cohort(self):
        made, updates, model = private(), random_updates(3), random_diffs(1)[0]
        after, _ = next_model(made, model, sum_of(made, updates).average(), ServerState(), KEY)
        for old, new, change in zip(model, after, noisy(updates), strict=True):
            np.testing.assert_allclose(new.array, old.array - change, rtol=1e-6, atol=1e-7)

    @pytest.mark.parametrize("name", TAKEN)
    def test_is_the_strategy_itself_on_that_sum(self, name):
        made, plain = private(name), strategy(name)
        updates, model = random_updates(3), random_diffs(1)[0]
        average = sum_of(made, updates).average()
        after, state = next_model(made, model, average, ServerState(), KEY)
        expected, remembered = next_model(plain, model, made.release(average, KEY), ServerState())
        for one, other in zip(after, expected, strict=True):
            assert (one.array == other.array).all()
        assert state.serialize() == remembered.serialize()

    def test_gives_the_same_bits_in_whatever_order_reports_come(self):
        made, updates = private(), random_updates(5)
        one, other = (sum_of(made, order).average() for order in (updates, updates[::-1]))
        assert all((a == b).all() for a, b in zip(one.tensors, other.tensors, strict=True))

    def test_uses_nothing_else_of_a_report(self):
        made = private()
        average = sum_of(made, random_updates(3)).average()
        assert (average.samples, average.metrics, average.numbers) == (0, {}, {})

    def test_lets_a_report_of_a_huge_norm_count_no_more_than_another(self):
        made, updates = private(), random_updates(2)
        huge = type(updates[0])([wire(1e30 * tensor.array) for tensor in updates[0].tensors])
        average = sum_of(made, [huge]).average()
        assert np.sqrt(sum(float(np.sum(tensor**2)) for tensor in average.tensors)) <= 0.5

    def test_refuses_a_report_that_is_not_finite(self):
        bad = random_updates(1)[0]
        bad.tensors[0] = wire(np.full((3, 4), np.nan))
        with pytest.raises(AggregationError, match="not finite"):
            private().check(bad)

    def test_needs_a_key_for_its_noise(self):
        made = private()
        average = sum_of(made, random_updates(2)).average()
        with pytest.raises(ValueError, match="32 bytes"):
            next_model(made, random_diffs(1)[0], average, ServerState())


REFUSED = {
    "median": "one by one",
    "krum": "one by one",
    "geometric_median": "one by one",
    "fedbuff": "several times",
    "fednova": "numbers of steps",
    "qfedavg": "losses",
}


class TestPrivacyIsRefused:
    @pytest.mark.parametrize(("name", "why"), REFUSED.items())
    def test_to_a_strategy_that_needs_more_than_the_sum(self, name, why):
        more = {"f": 1} if name == "krum" else {}
        with pytest.raises(ConfigError, match=f"strategy {name}: .*{why}.*Use fedavg"):
            private(name, client={"lr": 0.1}, **more)

    @pytest.mark.parametrize("role", [Role.AVERAGED, Role.COUNTER, Role.CONTROL])
    def test_to_a_model_that_reports_more_than_what_is_trained(self, role):
        with pytest.raises(ConfigError, match="group norm"):
            private(roles=(Role.TRAINED, Role.TRAINED, role))

    def test_beside_a_clip_of_the_strategy(self):
        with pytest.raises(ConfigError, match="leave out its 'clip_norm'"):
            private(clip_norm=1.0)

    @pytest.mark.parametrize(
        ("server", "why"),
        [
            ({"weighting": "samples"}, "'uniform'"),
            ({"max_weight": 3.0}, "all reports count the same"),
            ({"untold_weight": 3.0}, "all reports count the same"),
            ({"best": {"metric": "loss", "mode": "min"}}, "without noise"),
            ({"stop": {"metric": "loss", "mode": "min", "value": 0.0}}, "without noise"),
            ({"report_formats": ["int8"]}, "leave 'report_formats' out"),
            ({"metrics": ["update_norm"]}, "'metrics' reads or shows"),
        ],
    )
    def test_beside_what_weighs_or_shows_reports(self, server, why):
        with pytest.raises(ConfigError, match=why):
            private(server=server)

    def test_beside_a_key_under_which_workers_are_told_of_it(self):
        with pytest.raises(ConfigError, match=r"client_config: .* give your key another name"):
            private(client={"privacy": "mine"})

    def test_where_the_budget_is_too_small_for_a_cycle(self):
        with pytest.raises(ConfigError, match=r"one cycle alone has an ε of 4\.7"):
            private(privacy={"max_epsilon": 1.0})

    def test_to_a_model_with_an_evaluation_plan(self):
        evaluated = type(setting())(
            **{
                **{name: getattr(setting(), name) for name in ("client", "layout", "changing", "roles")},
                "server": setting({"privacy": PRIVACY}).server,
                "evaluates": True,
            }
        )
        with pytest.raises(ConfigError, match="evaluation Plan"):
            strategy_of(evaluated)

    def test_but_not_beside_uniform_weights(self):
        assert private(server={"weighting": "uniform"}).setting.changing_layout == LAYOUT
