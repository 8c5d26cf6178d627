"""What a worker refuses to take into a cycle, whoever hosted it: Plans whose roles are not true."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from fedplan.client import ConsentPolicy, SyftModel, participate_async
from fedplan.errors import PlanInputError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, Role, trace
from tests.client.small_grid import SmallGrid

given, made = PlanInputSpec, PlanOutputSpec
DATA = torch.full((4, 3), 7.0)


def plan_of(step: Callable[..., Any], inputs: Sequence[PlanInputSpec], roles: Sequence[Role | None]) -> Plan:
    """A Plan that returns a loss and tensor 0 of the model, and says these roles of its inputs."""
    examples = [DATA if spec.type == given.TYPE_DATA else torch.zeros(3) for spec in inputs]
    outputs = [made(made.TYPE_LOSS), made(made.TYPE_MODEL_PARAM, index=0)]
    plan = trace(step, *examples, name="training_plan", inputs=inputs, outputs=outputs)
    pairs = zip(plan.inputs, roles, strict=True)
    said = tuple(dataclasses.replace(item, role=role) for item, role in pairs)
    return Plan.parse(dataclasses.replace(plan, inputs=said).serialize())


FALSELY_FROZEN = plan_of(
    lambda w, x: (x.mean(), w + x.sum(0)),
    [given(given.TYPE_MODEL_PARAM, index=0), given(given.TYPE_DATA)],
    [Role.FROZEN, None],
)
TAKEN_TWICE = plan_of(
    lambda v, x, w: (x.mean(), v + x.sum(0) + 0 * w),
    [given(given.TYPE_MODEL_PARAM, index=0), given(given.TYPE_DATA), given(given.TYPE_MODEL_PARAM, index=0)],
    [Role.TRAINED, None, Role.FROZEN],
)
FROZEN = plan_of(
    lambda w, x: ((w * x).mean(), w),
    [given(given.TYPE_MODEL_PARAM, index=0), given(given.TYPE_DATA)],
    [Role.FROZEN, None],
)


async def take_part(grid: SmallGrid, plan: Plan, policy: ConsentPolicy | None) -> Any:
    """Takes part in a cycle of a grid that checks nothing and does not say which tensors change."""
    grid.model, grid.plans = SyftModel([torch.ones(3)]), {"training_plan": plan}
    return await participate_async(grid.url, "m", "1.0", DATA, accept=policy, batch_size=4)


@pytest.mark.parametrize("policy", [None, ConsentPolicy(outputs="loss")])
@pytest.mark.parametrize(
    ("plan", "words"),
    [(FALSELY_FROZEN, "frozen, and changes it"), (TAKEN_TWICE, "has 2 inputs that stand for tensor 0")],
)
async def test_a_plan_that_would_report_what_it_calls_frozen_does_not_run(
    grid: SmallGrid, plan: Plan, words: str, policy: ConsentPolicy | None
) -> None:
    with pytest.raises(PlanInputError, match=words):
        await take_part(grid, plan, policy)
    assert grid.asked("report") == []


@pytest.mark.parametrize("plan", [FALSELY_FROZEN, TAKEN_TWICE])
def test_a_policy_alone_refuses_it_too(plan: Plan) -> None:
    (reason,) = ConsentPolicy(outputs="loss").refusals(plan)
    assert "would report parameters" in reason


async def test_what_is_truly_frozen_is_reported_as_unchanged(grid: SmallGrid) -> None:
    assert (await take_part(grid, FROZEN, ConsentPolicy(outputs="loss"))).cycles == 1
    (diff,) = grid.diffs
    assert diff.params[0].tolist() == [0.0, 0.0, 0.0]
