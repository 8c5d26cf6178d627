"""Which tensors of a model change, by what its Plans say."""

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedplan.errors import PlanInputError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec, Role, Variants, trace, training_plan
from fedplan.plan.requirements import check_specs
from fedplan.plan.roles import changing_tensors, check_private, private_tensors
from fedplan.wire import schema

given, made = PlanInputSpec, PlanOutputSpec


class Adapted(nn.Module):
    """Tensors: scale, base.weight, base.bias, head.weight, head.bias, and a batch norm's statistics."""

    def __init__(self, trained: str) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(3))
        self.base, self.head = nn.Linear(3, 3), nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(3, affine=False)
        for name, parameter in self.named_parameters():
            parameter.requires_grad_(name.startswith(trained))

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.base(x)) * self.scale)


def plan_of(trained: str, *, training: bool = True) -> Plan:
    model = Adapted(trained).train(training)
    example = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    return Plan.parse(training_plan(model, nn.functional.cross_entropy, example=example).serialize())


def evaluating(labelled: bool = True) -> Plan:
    """A Plan that takes a tensor of the model and returns none."""
    return trace(
        lambda w, x: [(w * x).sum()],
        torch.zeros(3),
        torch.zeros(4, 3),
        inputs=[given(given.TYPE_MODEL_PARAM, index=0), given(given.TYPE_DATA)] if labelled else None,
        outputs=[made(made.TYPE_LOSS)] if labelled else None,
    )


def hand_written(step: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]], *roles: Role | None) -> Plan:
    """A Plan of two tensors of the model, which says these roles."""
    places = [given(given.TYPE_MODEL_PARAM, index=place) for place in (0, 1)]
    results = [made(made.TYPE_MODEL_PARAM, index=place) for place in (0, 1)]
    plan = trace(step, torch.zeros(2), torch.zeros(2), inputs=places, outputs=results)
    pairs = zip(plan.inputs, roles, strict=True)
    return dataclasses.replace(plan, inputs=tuple(dataclasses.replace(i, role=role) for i, role in pairs))


@pytest.mark.parametrize(
    ("trained", "training", "changing"),
    [
        ("head", False, (3, 4)),
        ("scale", False, (0,)),
        ("head", True, (3, 4, 5, 6)),  # the running statistics are averaged
        ("", True, None),
    ],
)
def test_what_is_not_frozen_changes(trained: str, training: bool, changing: tuple[int, ...] | None) -> None:
    assert changing_tensors([plan_of(trained, training=training)], 7) == changing


def test_a_tensor_changes_if_one_of_the_plans_changes_it() -> None:
    plans = [plan_of("scale", training=False), plan_of("head", training=False), evaluating()]
    assert changing_tensors(plans, 7) == (0, 3, 4)


def test_where_no_plan_returns_tensors_of_the_model_all_may_change() -> None:
    assert changing_tensors([evaluating()], 7) is None


@pytest.mark.parametrize(
    "other",
    [
        evaluating(labelled=False),
        hand_written(lambda v, w: (v, w + 1), None, None),
        hand_written(lambda v, w: (v, w + 1), Role.FROZEN, None),
    ],
    ids=["no specs", "no roles", "a role too few"],
)
def test_beside_a_plan_that_does_not_say_what_it_changes_all_may_change(other: Plan) -> None:
    assert changing_tensors([plan_of("head", training=False), other], 7) is None


def test_a_plan_that_changes_what_it_says_to_be_frozen_is_refused() -> None:
    check_specs(hand_written(lambda v, w: (v, w + 1), Role.FROZEN, Role.TRAINED), 2)
    liar = hand_written(lambda v, w: (v, w + 1), Role.TRAINED, Role.FROZEN)
    with pytest.raises(PlanInputError, match=r"says that tensor 1 of the model .* is frozen, and changes"):
        check_specs(Plan.parse(liar.serialize()), 2)


class TestPrivateTensors:
    """Of two tensors that a Plan changes, or of the first alone."""

    both = staticmethod(lambda v, w: (v + 1, w + 1))
    first = staticmethod(lambda v, w: (v + 1, w))

    def test_are_left_out_of_what_reports_change(self) -> None:
        plan = Plan.parse(hand_written(self.both, Role.TRAINED, Role.PRIVATE).serialize())
        assert changing_tensors([plan], 2) == (0,)
        assert private_tensors([plan, hand_written(self.both, Role.TRAINED, Role.TRAINED)]) == (1,)

    def test_may_be_private_or_frozen_in_the_other_plans(self) -> None:
        plan = hand_written(self.both, Role.TRAINED, Role.PRIVATE)
        idle = hand_written(self.first, Role.TRAINED, Role.PRIVATE)  # trains beside it, as in FedRep
        frozen = hand_written(self.first, Role.TRAINED, Role.FROZEN)
        check_private({"a": plan, "b": idle, "c": frozen, "d": evaluating()})
        assert changing_tensors([plan, idle, frozen, evaluating()], 2) == (0,)

    @pytest.mark.parametrize(
        ("other", "message"),
        [
            (hand_written(lambda v, w: (v, w + 1), Role.FROZEN, Role.TRAINED), "and trained in the Plan 'b'"),
            (hand_written(lambda v, w: (v, w + 1), Role.FROZEN, Role.COUNTER), "and counter in the Plan 'b'"),
            (hand_written(lambda v, w: (v, w + 1), None, None), "and reported in the Plan 'b'"),
            (evaluating(labelled=False), "'b' does not say what its inputs and outputs stand for"),
        ],
    )
    def test_may_be_nothing_else_there(self, other: Plan, message: str) -> None:
        plan = hand_written(self.both, Role.TRAINED, Role.PRIVATE)
        with pytest.raises(PlanInputError, match=message):
            check_private({"a": plan, "b": other})

    def test_may_not_be_all_that_changes(self) -> None:
        with pytest.raises(PlanInputError, match="nothing to report"):
            check_private({"a": hand_written(self.both, Role.PRIVATE, Role.PRIVATE)})

    def test_are_not_given_to_clients_that_would_report_them(self) -> None:
        plan = hand_written(self.both, Role.TRAINED, Role.PRIVATE)
        with_tfjs = dataclasses.replace(plan, variants=Variants(b"", schema.Role()))
        with pytest.raises(PlanInputError, match=r"a variant \(tfjs\) for clients that would report them"):
            check_private({"a": with_tfjs})
        check_private({"a": dataclasses.replace(with_tfjs, inputs=evaluating().inputs)})
