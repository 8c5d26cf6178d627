"""What goes with secure aggregation and what does not: the table in docs/privacy.md, row by row."""

import pathlib
import re

import pytest
import torch
from torch import nn

from fedplan import ControlVariates, evaluation_plan, training_plan
from fedplan.errors import ConfigError, HostingError
from fedplan.federation import strategy_names
from fedplan.federation.hosting import strategy_to_host
from fedplan.federation.secure.hosting import OWN_NUMBERS, REFUSED_KEYS, SUMMED, WORKING_KEYS
from fedplan.federation.tensors import layout_of
from fedplan.plan import Plan, from_torch, model_parameters
from fedplan.wire.config import ServerConfig, parse_server_config
from tests.grid.models import averaging_plan

SECURE = {"workers": 10, "clip": 1.0}
DOCS = pathlib.Path(__file__).parents[3] / "docs" / "privacy.md"


def hosted(module=None, *, averaging=None, evaluates=False, secure=None, **config):
    module = module or nn.Linear(3, 2)
    example = (torch.randn(4, 3), torch.randn(4, 2))
    plans = {"training_plan": training_plan(module, nn.functional.mse_loss, example=example)}
    if evaluates:
        plans["evaluation_plan"] = evaluation_plan(module, nn.functional.mse_loss, example=example)
    layout = layout_of([from_torch(tensor) for tensor in model_parameters(module)])
    asked = {"max_weight": 100.0, "secure_aggregation": SECURE | (secure or {})} | config
    server = parse_server_config({key: value for key, value in asked.items() if value is not None})
    return strategy_to_host(plans, layout, {"name": "m", "version": "1"}, server, averaging)


@pytest.mark.parametrize("name", sorted(SUMMED))
def test_strategies_that_need_the_average_alone_go_with_it(name):
    assert hosted(strategy=name).name == name


def needed_by(name):
    """A strategy with the settings that it must have."""
    own = {
        "fedbuff": {"k": 3},
        "qfedavg": {"lr": 0.1},
        "scaffold": {"population": 10},
        "feddyn": {"population": 10, "alpha": 0.1},
    }
    liars = {"f": 1} if name in ("krum", "multi_krum", "bulyan") else {}
    return {"name": name, **own.get(name, {}), **liars}


@pytest.mark.parametrize("name", sorted(set(strategy_names()) - SUMMED))
def test_every_other_strategy_is_refused_by_its_name(name):
    module = ControlVariates(nn.Linear(3, 2)) if name in ("scaffold", "feddyn") else None
    with pytest.raises(ConfigError, match=f"^server_config: 'secure_aggregation': .* {name} "):
        hosted(module, strategy=needed_by(name))


WORKS = [
    {"strategy": "fedavg"},
    {"weighting": "uniform", "max_weight": None},
    {"weighting": "samples"},
    {"max_weight": 5.0},
    {"best": {"metric": "training_loss", "mode": "min"}},
    {"stop": {"metric": "training_loss", "mode": "min", "value": 0.1}},
    {"do_not_reuse_workers_until_cycle": 2},
    {"num_cycles": 3},
    {"authentication": {"secret": "a secret of thirty-two bytes, or more"}},
    {"keep_checkpoints": 3},
    {"minimum_download_speed": 1.0},
    {"minimum_upload_speed": 1.0},
    {"most_cycles_per_day": 5},
    {"pool_selection": "random"},
    {"public": True},
    {"evaluates": True},
]


@pytest.mark.parametrize("config", WORKS, ids=lambda config: next(iter(config)))
def test_goes_with(config):
    hosted(**config)


def test_of_every_key_of_a_server_config_it_is_settled_and_tried_whether_it_goes_with_it():
    refused = {*REFUSED_KEYS, *OWN_NUMBERS}
    assert not WORKING_KEYS & refused
    assert {*ServerConfig.model_fields} == WORKING_KEYS | refused | {"secure_aggregation"}
    assert {*WORKING_KEYS} <= {key for config in WORKS for key in config}
    tried = {key for config, _ in REFUSED for key in config}
    assert refused - tried == {"iterative_plan"}  # which says of what kind an averaging Plan is


PRIVATE = {
    "num_cycles": 3,
    "weighting": "uniform",
    "max_weight": None,
    "authentication": {"secret": "a secret of thirty-two bytes, or more"},
    "privacy": {
        "clip": 1.0,
        "noise_multiplier": 20.0,
        "cohort": 10,
        "delta": 1e-5,
        "max_epsilon": 8.0,
    },
}

REFUSED = [
    ({"secure": {"level": "lying"}}, "a directory in which workers find each other's registered keys"),
    ({"strategy": "median"}, "the robust rule median compares single reports"),
    ({"strategy": {"name": "krum", "f": 1}}, "the robust rule krum compares single reports"),
    ({"strategy": "fednova"}, "the strategy fednova needs more than the average"),
    ({"strategy": {"name": "qfedavg", "lr": 0.1}}, "the strategy qfedavg needs more than the average"),
    ({"strategy": {"name": "fedbuff", "k": 3}}, "the strategy fedbuff needs more than the average"),
    ({"strategy": {"name": "fedadam", "clip_norm": 1.0}}, "'clip_norm' bounds single reports"),
    ({"report_formats": ["topk"]}, "the indices of topk would tell of the data"),
    ({"report_formats": ["int8"]}, "'report_formats' are other forms of a report"),
    ({"keep_diffs": True}, "'keep_diffs': reports are under masks, and of no use"),
    ({"max_norm": 5.0}, "'max_norm' is measured on single reports"),
    ({"metrics": ["update_norm"]}, "'metrics' are measured by the grid on single reports"),
    ({"evaluation": {"fraction": 0.1}, "evaluates": True}, "'evaluation' has workers that only measure"),
    ({"min_workers": 5}, "'min_workers' says nothing of a secure round"),
    ({"max_diffs": 5}, "'max_diffs' says nothing of a secure round"),
    (PRIVATE, "'privacy' has the grid clip each report and add noise"),
    ({"untold_weight": 5.0}, "each worker tells its own weight, under a mask"),
    ({"max_weight": None}, "set 'max_weight' to the most samples"),
    ({"min_diffs": 5}, "'min_diffs' says nothing of a secure round"),
    ({"max_workers": 5}, "'max_workers' says nothing of a secure round"),
    ({"over_selection": 1.5, "max_diffs": 5}, "'max_diffs' says nothing of a secure round"),
    ({"cycle_length": 5.0}, "'cycle_length' says nothing of a secure round"),
    ({"place_timeout": 5.0}, "'place_timeout' says nothing of a secure round"),
    ({"secure": {"corrupt": 0.9}}, "fewer than two honest workers may be left"),
    ({"secure": {"corrupt": 0.05}}, "no worker would take part: the round is safe with 5 %"),
    (
        {"secure": {"workers": 3, "dropout": 0.5, "corrupt": 0.0}},
        "no worker would take part: the sum may be taken over 2",
    ),
    ({"secure": {"workers": 100_000, "bits": 16}}, "16 bits of 100000 workers add up to 33"),
    ({"secure": {"most_metric": 1e9}, "max_weight": 1e12}, "lower 'max_weight' or 'most_metric'"),
    ({"module": nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))}, "the model has running statistics"),
]


@pytest.mark.parametrize(("config", "why"), REFUSED, ids=lambda value: str(value)[:60])
def test_is_refused_at_hosting_with_the_reason(config, why):
    with pytest.raises(ConfigError, match=f"^server_config: 'secure_aggregation': .*{re.escape(why)}"):
        hosted(**config)


def test_an_averaging_plan_is_refused():
    plan = Plan.parse(averaging_plan(lambda a, b, c, d: ((a + c) / 2, (b + d) / 2), 4, ((2, 3), (2,))))
    with pytest.raises((ConfigError, HostingError), match="an averaging Plan reads single reports"):
        hosted(averaging=plan)


def test_fewer_workers_to_begin_with_than_places():
    with pytest.raises(ConfigError, match="fewest \\(11\\) is more than workers \\(10\\)"):
        hosted(secure={"fewest": 11})


def test_each_reason_for_a_refusal_stands_in_the_docs():
    table = DOCS.read_text().partition("## Which combinations work")[2].partition("\n## ")[0]
    for word in ("averaging Plan", "lying", *REFUSED_KEYS, *OWN_NUMBERS, *WORKING_KEYS, *strategy_names()):
        assert word in table, word
    assert "`clip_norm`" in table
