"""Plans that PySyft 0.2.9 made run to the outputs that PySyft computed."""

from pathlib import Path

import pytest
import torch

from fedplan.plan import Plan, split_variants
from fedplan.plan.run.interpreter import interpret
from fedplan.wire import schema
from tests.plan.fixtures import FOLDER, cases, manifest, needs_fixtures, state

pytestmark = needs_fixtures


@pytest.mark.parametrize("folder", cases(), ids=lambda folder: folder.name)
def test_a_plan_of_pysyft_runs_to_its_expected_output(folder: Path) -> None:
    if folder.name == "eq_op":
        # PySyft evaluates `a == b` while it traces: its Plan is empty, and so are the outputs it expects
        assert manifest("eq_op")["list"] == "DIFFERS from native"
    plan = Plan.parse((folder / "list.plan.pb").read_bytes())
    inputs = state(folder / "input.state.pb")
    expected = state(folder / "expected_output.state.pb")
    again = Plan.parse(plan.serialize())
    for outputs in (plan(*inputs), interpret(plan.graph, inputs), again(*inputs)):
        assert len(outputs) == len(expected)
        for ours, theirs in zip(outputs, expected, strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_a_plan_carries_its_state() -> None:
    plan = Plan.parse((FOLDER / "state_func" / "list.plan.pb").read_bytes())
    assert [tuple(t.shape) for t in plan.state] == [(1, 3), (1,)]
    assert [tuple(t.shape) for t in Plan.parse(plan.serialize()).state] == [(1, 3), (1,)]


@pytest.mark.parametrize("name", [f.parent.name for f in FOLDER.glob("*/as_sent_by_client.plan.pb")])
def test_a_hosted_plan_is_split_into_the_variants_that_pygrid_serves(name: str) -> None:
    variants = split_variants((FOLDER / name / "as_sent_by_client.plan.pb").read_bytes())
    for kind in ("list", "torchscript", "tfjs"):
        path = FOLDER / name / f"{kind}.plan.pb"
        assert (kind in variants) == path.exists()
        if path.exists():  # PyGrid gives new ids at each download; all else is the same
            ours, theirs = schema.Plan.decode(variants[kind]), schema.Plan.decode(path.read_bytes())
            assert (ours.name, ours.base_framework) == (theirs.name, theirs.base_framework)
            assert bool(ours.torchscript) == bool(theirs.torchscript) == (kind == "torchscript")
            assert ours.role is not None
            assert theirs.role is not None
            commands = [[a.command for a in role.actions] for role in (ours.role, theirs.role)]
            assert commands[0] == commands[1]
            assert len(ours.role.input_placeholder_ids) == len(theirs.role.input_placeholder_ids)


def test_a_torchscript_variant_asked_to_run_says_which_variant_to_ask_for() -> None:
    from fedplan.errors import PlanFormatError

    with pytest.raises(PlanFormatError, match="receive_operations_as=list"):
        Plan.parse((FOLDER / "linreg_sgd" / "torchscript.plan.pb").read_bytes())
