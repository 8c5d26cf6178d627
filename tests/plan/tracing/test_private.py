"""Tensors of a model that each worker keeps for itself: their role, and who is not given such a Plan."""

import logging

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError, TranslationError
from fedplan.plan import Plan, PlanInputSpec, Role, training_plan, with_variants
from fedplan.plan.variants.make import make_variant

EXAMPLE = (torch.zeros(4, 6), torch.zeros(4, dtype=torch.long))


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)
        self.head.bias.requires_grad_(False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.norm(self.body(x)))


def plan_of(*private: str) -> Plan:
    return training_plan(Net(), F.cross_entropy, example=EXAMPLE, private=private)


def roles(plan: Plan) -> dict[str, Role | None]:
    kind = PlanInputSpec.TYPE_MODEL_PARAM
    return {item.name: item.role for item in plan.inputs if item.spec and item.spec.type == kind}


@pytest.mark.parametrize(
    ("patterns", "private"),
    [
        ((), set()),
        (("head.weight",), {"head.weight"}),
        (("norm.running_*", "head.*"), {"norm.running_mean", "norm.running_var", "head.weight", "head.bias"}),
        (("*.weight",), {"body.weight", "norm.weight", "head.weight"}),
    ],
)
def test_names_and_patterns_say_what_is_private_trained_or_not(
    patterns: tuple[str, ...], private: set[str]
) -> None:
    found = roles(Plan.parse(plan_of(*patterns).serialize()))
    assert {name for name, role in found.items() if role is Role.PRIVATE} == private
    assert {role for name, role in found.items() if name not in private} >= {Role.TRAINED}


def test_a_private_tensor_is_an_input_and_an_output_like_the_others() -> None:
    private, plain = plan_of("head.*"), plan_of()
    assert str(private.graph) == str(plain.graph)
    assert private.output_specs == plain.output_specs
    assert "head.weight: private float32 (3, 5)" in str(private)


@pytest.mark.parametrize(
    ("private", "message"),
    [
        (["tail.*"], r"`private` names 'tail\.\*', and the model has no tensor .* body\.weight"),
        (["head"], "no tensor of that name"),
        ("head.*", r"must be a list of names, such as \['head\.\*'\]"),
        (["*"], "nothing to report"),
    ],
)
def test_what_cannot_be_private_is_refused(private: list[str], message: str) -> None:
    with pytest.raises(TraceError, match=message):
        training_plan(Net(), F.cross_entropy, example=EXAMPLE, private=private)


@pytest.mark.parametrize("variant", ["tfjs", "torchscript"])
def test_clients_that_would_report_private_tensors_have_no_such_plan(
    caplog: pytest.LogCaptureFixture, variant: str
) -> None:
    plan = plan_of("head.*")
    with pytest.raises(TranslationError, match=r"'head\.weight'.* private, and only Python workers keep"):
        make_variant(plan, variant)
    with caplog.at_level(logging.WARNING):
        assert with_variants(plan).variants.names() == []
    assert "only Python workers keep tensors to themselves" in caplog.text
