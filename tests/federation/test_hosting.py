"""What is refused when a model is hosted, because its strategy does not go with it."""

import pytest
from torch import nn, randn

from fedplan import ControlVariates, DynamicRegularizer, evaluation_plan, training_plan
from fedplan.errors import ConfigError
from fedplan.federation.hosting import strategy_to_host
from fedplan.federation.tensors import layout_of
from fedplan.plan import Plan, from_torch, model_parameters
from fedplan.wire.config import parse_server_config

SCAFFOLD = {"name": "scaffold", "population": 10}
FEDDYN = {"name": "feddyn", "population": 10, "alpha": 0.1}


def hosted(module, strategy=None, private=(), **server):
    example = (randn(4, 3), randn(4, 2))
    loss = nn.functional.mse_loss
    plans = {
        "training_plan": training_plan(module, loss, example=example, private=private),
        "evaluation_plan": evaluation_plan(module, loss, example=example),
    }
    sent = {name: Plan.parse(plan.serialize()) for name, plan in plans.items()}
    layout = layout_of([from_torch(tensor) for tensor in model_parameters(module)])
    config = parse_server_config(server if strategy is None else {"strategy": strategy, **server})
    return strategy_to_host(sent, layout, {"name": "m", "version": "1", "alpha": 0.1, "lr": 0.1}, config)


class TestWhatWorkersRemember:
    """SCAFFOLD and FedDyn reckon with what workers keep for themselves, and no other strategy does."""

    @pytest.mark.parametrize(
        ("wrapper", "strategy"), [(ControlVariates, SCAFFOLD), (DynamicRegularizer, FEDDYN)]
    )
    def test_goes_with_its_own_strategy(self, wrapper, strategy):
        assert hosted(wrapper(nn.Linear(3, 2)), strategy).name == strategy["name"]

    @pytest.mark.parametrize("wrapper", [nn.Sequential, ControlVariates])
    def test_is_missing_in_other_models_than_feddyns(self, wrapper):
        needs = r"feddyn needs a model .*: host fedplan\.DynamicRegularizer\(model\)"
        with pytest.raises(ConfigError, match=needs):
            hosted(wrapper(nn.Linear(3, 2)), FEDDYN)

    def test_is_another_thing_than_scaffolds_in_feddyns_model(self):
        with pytest.raises(ConfigError, match=r"scaffold needs .* host fedplan\.ControlVariates\(model\)"):
            hosted(DynamicRegularizer(nn.Linear(3, 2)), SCAFFOLD)

    @pytest.mark.parametrize("strategy", [None, "fedadam", "median"])
    @pytest.mark.parametrize(
        ("wrapper", "needed"), [(ControlVariates, "scaffold"), (DynamicRegularizer, "feddyn")]
    )
    def test_is_refused_under_any_other_strategy(self, wrapper, needed, strategy):
        told = rf"a fedplan\.{wrapper.__name__}, and the strategy {strategy or 'fedavg'} .*'name': '{needed}'"
        with pytest.raises(ConfigError, match=told):
            hosted(wrapper(nn.Linear(3, 2)), strategy, min_diffs=3)

    @pytest.mark.parametrize("private", ["own.*", "module.*"])
    def test_is_not_found_in_every_private_tensor(self, private):
        module = nn.ModuleDict({"module": nn.Linear(3, 4), "own": nn.Sequential(nn.Linear(4, 2))})
        module.forward = lambda x: module["own"](module["module"](x))
        assert hosted(module, private=[private]).name == "fedavg"
