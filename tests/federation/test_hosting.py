"""What is refused when a model is hosted, because its strategy does not go with it."""

import functools
from collections import OrderedDict

import pytest
from torch import nn, randn

from fedplan import ControlVariates, DynamicRegularizer, evaluation_plan, training_plan
from fedplan.errors import ConfigError
from fedplan.federation.hosting import strategy_to_host
from fedplan.federation.tensors import layout_of
from fedplan.plan import Plan, Role, from_torch, model_parameters
from fedplan.wire.config import parse_server_config

SCAFFOLD = {"name": "scaffold", "population": 10}
FEDDYN = {"name": "feddyn", "population": 10, "alpha": 0.1}


def layers(first="0", second="1"):
    return nn.Sequential(OrderedDict({first: nn.Linear(3, 4), second: nn.Sequential(nn.Linear(4, 2))}))


def normalised():
    return nn.Sequential(nn.BatchNorm1d(3), nn.Linear(3, 2))


@functools.cache
def sent(make, private=()):
    """A model's layout, and its Plans as they come to a grid."""
    module, loss, example = make(), nn.functional.mse_loss, (randn(4, 3), randn(4, 2))
    plans = {
        "training_plan": training_plan(module, loss, example=example, private=private),
        "evaluation_plan": evaluation_plan(module, loss, example=example),
    }
    layout = layout_of([from_torch(tensor) for tensor in model_parameters(module)])
    return layout, {name: Plan.parse(plan.serialize()) for name, plan in plans.items()}


def controlled():
    return ControlVariates(nn.Linear(3, 2))


def regularised():
    return DynamicRegularizer(nn.Linear(3, 2))


def hosted(make, strategy=None, private=(), **server):
    layout, plans = sent(make, private)
    config = parse_server_config(server if strategy is None else {"strategy": strategy, **server})
    return strategy_to_host(plans, layout, {"name": "m", "version": "1", "alpha": 0.1, "lr": 0.1}, config)


class TestWhatWorkersRemember:
    """SCAFFOLD and FedDyn reckon with what workers keep for themselves, and no other strategy does."""

    @pytest.mark.parametrize(("make", "strategy"), [(controlled, SCAFFOLD), (regularised, FEDDYN)])
    def test_goes_with_its_own_strategy(self, make, strategy):
        assert hosted(make, strategy).name == strategy["name"]

    @pytest.mark.parametrize("make", [layers, controlled])
    def test_is_missing_in_other_models_than_feddyns(self, make):
        needs = r"feddyn needs a model .*: host fedplan\.DynamicRegularizer\(model\)"
        with pytest.raises(ConfigError, match=needs):
            hosted(make, FEDDYN)

    def test_is_another_thing_than_scaffolds_in_feddyns_model(self):
        with pytest.raises(ConfigError, match=r"scaffold needs .* host fedplan\.ControlVariates\(model\)"):
            hosted(regularised, SCAFFOLD)

    @pytest.mark.parametrize("strategy", [None, "fedadam", "median"])
    @pytest.mark.parametrize(
        ("make", "wrapper", "needed"),
        [(controlled, "ControlVariates", "scaffold"), (regularised, "DynamicRegularizer", "feddyn")],
    )
    def test_is_refused_under_any_other_strategy(self, make, wrapper, needed, strategy):
        told = rf"a fedplan\.{wrapper}, and the strategy {strategy or 'fedavg'} .*'name': '{needed}'"
        with pytest.raises(ConfigError, match=told):
            hosted(make, strategy, min_diffs=3)

    def test_is_not_found_in_every_private_tensor(self):
        assert hosted(functools.partial(layers, "module", "own"), private=("own.*",)).name == "fedavg"


@pytest.mark.parametrize(("make", "strategy"), [(controlled, SCAFFOLD), (regularised, FEDDYN)])
class TestAPopulation:
    """The number of workers in all, beside which a cycle's reports are counted."""

    @pytest.mark.parametrize(
        "server",
        [
            {"min_diffs": 11},
            {"max_diffs": 11},
            {"max_workers": 11},
            {"min_workers": 11},
            {"min_diffs": 2, "max_diffs": 11},
            {"cycle_length": 60, "min_diffs": 11},
        ],
        ids=str,
    )
    def test_is_no_smaller_than_the_reports_of_a_cycle(self, make, strategy, server):
        told = "'population' is 10, and a cycle may have 11 reports"
        with pytest.raises(ConfigError, match=told):
            hosted(make, strategy, **server)

    @pytest.mark.parametrize("server", [{"max_diffs": 10}, {"max_diffs": 99, "max_workers": 10}], ids=str)
    def test_may_be_as_large(self, make, strategy, server):
        hosted(make, strategy, **server)


class TestRunningStatistics:
    """A late report subtracts its change of them from another checkpoint than it trained."""

    FEDBUFF = {"name": "fedbuff", "k": 2}  # noqa: RUF012

    def test_are_refused_where_reports_may_come_late(self):
        why = r"fedbuff takes reports that come late, .*\(its tensors 4, 5, .*private=\['\*running_mean'"
        with pytest.raises(ConfigError, match=why):
            hosted(normalised, self.FEDBUFF)
        assert hosted(normalised).name == "fedavg"

    def test_may_be_kept_by_each_worker(self):
        made = hosted(normalised, self.FEDBUFF, private=("*running_mean", "*running_var"))
        assert Role.AVERAGED not in made.setting.roles
