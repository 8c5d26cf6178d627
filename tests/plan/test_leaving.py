"""What a report on a Plan would tell, and what stays with the worker."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from fedplan.plan import (
    Plan,
    PlanInputSpec,
    PlanOutputSpec,
    Role,
    accuracy,
    evaluation_plan,
    trace,
    training_plan,
)
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


def hand_made(step: Callable[..., Any], *inputs: tuple[PlanInputSpec | None, Role | None]) -> Plan:
    """A Plan that returns tensor 0 of the model, with inputs that say these specs and roles."""
    outputs = [PlanOutputSpec(PlanOutputSpec.TYPE_MODEL_PARAM, index=0)]
    plan = trace(step, *(torch.zeros(2) for _ in inputs), outputs=outputs)
    pairs = zip(plan.inputs, inputs, strict=True)
    said = tuple(dataclasses.replace(item, spec=spec, role=role) for item, (spec, role) in pairs)
    return dataclasses.replace(plan, inputs=said)


OWN = PlanInputSpec(PlanInputSpec.TYPE_MODEL_PARAM, index=0)
BATCH = PlanInputSpec(PlanInputSpec.TYPE_DATA)


@pytest.mark.parametrize(
    ("plan", "kinds"),
    [
        (hand_made(lambda w, x: [w], (OWN, Role.FROZEN), (BATCH, None)), ()),
        (hand_made(lambda w, x: [w + x], (OWN, Role.FROZEN), (BATCH, None)), ("parameters",)),
        (hand_made(lambda w, x: [x], (OWN, Role.FROZEN), (BATCH, None)), ("parameters",)),
        (hand_made(lambda v, w: [v + w], (OWN, Role.TRAINED), (OWN, Role.FROZEN)), ("parameters",)),
        (hand_made(lambda v, w: [w], (OWN, Role.TRAINED), (OWN, Role.FROZEN)), ("parameters",)),
        (hand_made(lambda w, x: [w], (OWN, Role.FROZEN), (None, None)), ("parameters",)),
        (hand_made(lambda w, x: [w + x], (OWN, Role.PRIVATE), (BATCH, None)), ()),
    ],
)
def test_only_what_comes_back_as_it_went_in_is_frozen(plan: Plan, kinds: tuple[str, ...]) -> None:
    assert leaving(plan).kinds == kinds
