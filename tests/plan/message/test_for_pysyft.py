"""What PySyft needs of a Plan message. PySyft itself reads it in tests/legacy."""

import pytest
import torch
from torch import nn

from fedplan.errors import PlanFormatError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, trace, training_plan, with_variants
from fedplan.plan.message.for_pysyft import for_pysyft, is_loadable
from fedplan.wire import schema
from tests.plan.fixtures import FOLDER, needs_fixtures

In, Out = PlanInputSpec, PlanOutputSpec


def key(id: schema.Id | None) -> object:
    assert id is not None
    return id.id_int if id.id_int is not None else id.id_str


def arguments_of(data: bytes) -> list[schema.Arg]:
    """All arguments of the op list, and what is in lists."""
    role = schema.Plan.decode(data).role
    assert role is not None
    found = [arg for action in role.actions for arg in action.args]
    for arg in found:
        if arg.arg_list is not None:
            found += arg.arg_list.args
    return found


def values_of(role: schema.Role) -> set[object]:
    """The ids of all values that a role speaks of."""
    found = {key(id) for id in (*role.input_placeholder_ids, *role.output_placeholder_ids)}
    pending = [arg for action in role.actions for arg in (*action.args, *action.kwargs.values())]
    for arg in pending:
        if arg.arg_placeholder_id is not None:
            found.add(key(arg.arg_placeholder_id.id))
        if arg.arg_list is not None:
            pending += arg.arg_list.args
    return found | {key(made.id) for action in role.actions for made in action.return_placeholder_ids}


@pytest.fixture(scope="module")
def plan() -> Plan:
    model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
    model[2].bias.requires_grad_(False)  # an output that is an input
    plan = training_plan(
        model, nn.functional.cross_entropy, example=(torch.randn(4, 6), torch.tensor([0, 1, 2, 0]))
    )
    return with_variants(plan, variants=["tfjs"])


def test_each_value_has_one_placeholder(plan: Plan) -> None:
    message = schema.Plan.decode(for_pysyft(plan.serialize()))
    for role in (message.role, message.roles["tfjs"]):
        assert role is not None
        described = [key(placeholder.id) for placeholder in role.placeholders]
        assert len(described) == len(set(described))
        assert set(described) >= values_of(role)


def test_the_plan_is_the_same(plan: Plan) -> None:
    again, sent = Plan.parse(for_pysyft(plan.serialize())), Plan.parse(plan.serialize())
    assert (again.inputs, again.outputs) == (sent.inputs, sent.outputs)
    assert str(again.graph) == str(sent.graph)


def test_a_text_stands_for_an_argument_that_is_absent() -> None:
    plan = trace(lambda x, i: (x.clamp(max=1.0), x[:, i]), torch.zeros(3, 4), torch.tensor([1, 2]))
    data = for_pysyft(plan.serialize())
    assert all(arg.which("arg") is not None for arg in arguments_of(data))
    x, i = 3 * torch.randn(3, 4), torch.tensor([3, 0])
    for ours, theirs in zip(Plan.parse(data)(x, i), plan(x, i), strict=True):
        assert torch.equal(ours, theirs)


def test_in_a_variant_that_others_run_it_is_refused(plan: Plan) -> None:
    message = schema.Plan.decode(plan.serialize())
    message.roles["tfjs"].actions[0].args.append(schema.Arg())
    with pytest.raises(PlanFormatError, match=r"the tfjs variant .* without one of its arguments"):
        for_pysyft(message.encode())


def test_one_value_under_two_names_is_refused() -> None:
    def step(x: torch.Tensor, w: torch.Tensor) -> tuple[torch.Tensor, ...]:
        loss = (x * w).sum()
        return loss, loss, w - x

    plan = trace(
        step,
        torch.ones(2),
        torch.ones(2),
        pin_batch=True,
        inputs=[In(In.TYPE_DATA), In(In.TYPE_MODEL_PARAM, index=0)],
        outputs=[Out(Out.TYPE_LOSS), Out(Out.TYPE_METRIC, "same"), Out(Out.TYPE_MODEL_PARAM, index=0)],
    )
    with pytest.raises(PlanFormatError, match="has one value for loss and same"):
        for_pysyft(plan.serialize())


def test_an_archive_of_fedplan_is_refused(plan: Plan) -> None:
    whole = with_variants(plan)
    assert not is_loadable(whole.variants.torchscript)
    with pytest.raises(PlanFormatError, match=r"PySyft's torch 1.4 cannot load"):
        for_pysyft(whole.serialize())
    assert not is_loadable(b"no archive")


@needs_fixtures
def test_what_pysyft_made_stays() -> None:
    sent = (FOLDER / "small_mlp_sgd" / "as_sent_by_client.plan.pb").read_bytes()
    before, after = schema.Plan.decode(sent), schema.Plan.decode(for_pysyft(sent))
    assert after.torchscript == before.torchscript
    assert is_loadable(after.torchscript)
    assert after.role == before.role
