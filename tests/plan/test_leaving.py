"""What a report on a Plan would tell, and what stays with the worker."""

import pytest
import torch
from torch import nn

from fedplan.plan import Plan, accuracy, evaluation_plan, training_plan
from fedplan.plan.leaving import leaving
from tests.plan.fixtures import FOLDER, needs_fixtures

EXAMPLE = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))


def test_a_training_reports_the_change_of_what_is_trained_its_loss_and_its_metrics() -> None:
    plan = training_plan(
        nn.Linear(3, 2),
        nn.functional.cross_entropy,
        example=EXAMPLE,
        metrics={"accuracy": accuracy},
        optimizer=torch.optim.Adam,
    )
    told = leaving(plan)
    assert (told.parameters, told.parameter_bytes) == (("weight", "bias"), 4 * (6 + 2))
    assert (told.loss, told.metrics, told.unknown) == (True, ("accuracy",), ())
    assert (told.private, told.optimizer_tensors) == ((), 5)
    assert told.kinds == ("loss", "metrics", "parameters")


def test_what_is_private_or_frozen_stays() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    plan = training_plan(model, nn.functional.cross_entropy, example=EXAMPLE, private=["1.*"])
    told = leaving(plan)
    assert (told.parameters, told.private) == (("0.bias",), ("1.weight", "1.bias"))
    assert told.parameter_bytes == 16


def test_an_evaluation_reports_no_parameters() -> None:
    plan = evaluation_plan(nn.Linear(3, 2), nn.functional.cross_entropy, example=EXAMPLE)
    assert leaving(plan).kinds == ("loss",)


@needs_fixtures
def test_a_plan_that_does_not_say_what_its_outputs_are_may_report_anything() -> None:
    plan = Plan.parse((FOLDER / "small_mlp_sgd" / "list.plan.pb").read_bytes())
    told = leaving(plan)
    assert len(told.unknown) == len(plan.outputs)
    assert told.kinds == ("loss", "metrics", "parameters")


@pytest.mark.parametrize("index", [0, 1])
def test_the_bytes_are_those_of_the_reported_tensors(index: int) -> None:
    names = ["weight", "bias"]
    plan = training_plan(
        nn.Linear(3, 2), nn.functional.cross_entropy, example=EXAMPLE, private=[names[1 - index]]
    )
    assert leaving(plan).parameter_bytes == (24, 8)[index]
