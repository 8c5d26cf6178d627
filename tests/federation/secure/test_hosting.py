"""What goes with secure aggregation and what does not: the table in docs/privacy.md, row by row."""

import pathlib
import re

import pytest
import torch
from torch import nn

from fedplan import evaluation_plan, training_plan
from fedplan.errors import ConfigError, HostingError
from fedplan.federation.hosting import strategy_to_host
from fedplan.federation.secure.hosting import SUMMED
from fedplan.federation.tensors import layout_of
from fedplan.plan import Plan, from_torch, model_parameters
from fedplan.wire.config import parse_server_config
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


@pytest.mark.parametrize(
    "config",
    [
        {"weighting": "uniform", "max_weight": None},
        {"best": {"metric": "training_loss", "mode": "min"}},
        {"stop": {"metric": "training_loss", "mode": "min", "value": 0.1}},
        {"do_not_reuse_workers_until_cycle": 2},
        {"num_cycles": 3},
        {"evaluates": True},
        {"authentication": {"secret": "a secret of thirty-two bytes, or more"}},
    ],
    ids=lambda config: next(iter(config)),
)
def test_goes_with(config):
    hosted(**config)


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
    ({"untold_weight": 5.0}, "each worker tells its own weight, under a mask"),
    ({"max_weight": None}, "set 'max_weight' to the most samples"),
    ({"min_diffs": 5}, "'min_diffs' says nothing of a secure round"),
    ({"max_workers": 5}, "'max_workers' says nothing of a secure round"),
    ({"cycle_length": 5.0}, "'cycle_length' says nothing of a secure round"),
    ({"place_timeout": 5.0}, "'place_timeout' says nothing of a secure round"),
    ({"secure": {"corrupt": 0.9}}, "fewer than two honest workers may be left"),
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
    for word in (
        "averaging Plan",
        "`median`",
        "`report_formats`",
        "`metrics`",
        "`evaluation`",
        "`lying`",
        "`untold_weight`",
        "`clip_norm`",
        "`max_norm`",
        *(f"`{name}`" for name in SUMMED),
    ):
        assert word in table, word
