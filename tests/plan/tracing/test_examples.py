"""The forms of a batch that `training_plan` takes, and what becomes of each as inputs of the Plan."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import Plan, PlanInputSpec, model_parameters, training_plan

X, Y = torch.randn(5, 6), torch.randint(3, (5,))


class Named(nn.Module):
    """Takes its inputs by name, and computes its own loss when it is given labels, as Hugging Face's do."""

    @dataclasses.dataclass
    class Output:
        logits: torch.Tensor
        loss: torch.Tensor | None = None

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 3)

    def forward(
        self, *, features: torch.Tensor, scale: torch.Tensor | None = None, labels: torch.Tensor | None = None
    ) -> "Named.Output":
        logits = self.layer(features if scale is None else features * scale)
        return self.Output(logits, None if labels is None else F.cross_entropy(logits, labels))


def described(plan: Plan) -> list[tuple[str, str | int | None]]:
    kinds = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
    specs = [item.spec for item in plan.inputs if item.spec is not None]
    return [(s.type, s.name if s.name is not None else s.index) for s in specs if s.type in kinds]


def loss_of(plan: Plan, model: nn.Module, *batch: Any) -> torch.Tensor:
    return plan(*batch, 0.1, *model_parameters(model))[0]


def test_arguments_by_name_and_the_model_s_own_loss() -> None:
    model = Named()
    plan = training_plan(model, example={"features": X, "labels": Y})
    assert described(plan) == [("data", "features"), ("data", "labels")]
    again = Plan.parse(plan.serialize())
    assert again.input_specs == plan.input_specs
    expected = F.cross_entropy(model.layer(X), Y).detach()
    torch.testing.assert_close(loss_of(again, model, X, Y), expected)


def test_arguments_by_name_and_a_loss_of_the_owner_s() -> None:
    model = Named()
    plan = training_plan(
        model, lambda output, y: F.cross_entropy(output.logits, y), example=({"features": X, "scale": X}, Y)
    )
    assert described(plan) == [("data", "features"), ("data", "scale"), ("target", None)]
    expected = F.cross_entropy(model.layer(X * X), Y).detach()
    torch.testing.assert_close(loss_of(plan, model, X, X, Y), expected)


@pytest.mark.parametrize("example", [(X, None), (X,)])
def test_no_target(example: Any) -> None:
    model = nn.Sequential(nn.Linear(6, 2), nn.Linear(2, 6))
    plan = training_plan(model, lambda output: output.square().mean(), example=example)
    assert described(plan) == [("data", None)]
    torch.testing.assert_close(loss_of(plan, model, X), model(X).square().mean().detach())


def test_several_targets() -> None:
    model = nn.Linear(6, 3)

    def loss(output: torch.Tensor, targets: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        return F.cross_entropy(output, targets[0]) + output.sum(1).sub(targets[1]).square().mean()

    plan = training_plan(model, loss, example=(X, (Y, X[:, 0])))
    assert described(plan) == [("data", None), ("target", 0), ("target", 1)]
    expected = loss(model(X), (Y, X[:, 0])).detach()
    torch.testing.assert_close(loss_of(plan, model, X, Y, X[:, 0]), expected)


def test_targets_by_name() -> None:
    model = nn.Linear(6, 3)
    plan = training_plan(
        model, lambda output, t: F.cross_entropy(output, t["label"]), example=(X, {"label": Y})
    )
    assert described(plan) == [("data", None), ("target", "label")]


def test_nested_data_is_named_by_its_path() -> None:
    class Nested(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(6, 3)

        def forward(self, views: dict[str, list[torch.Tensor]]) -> torch.Tensor:
            return self.layer(views["left"][0] + views["left"][1])

    plan = training_plan(Nested(), F.cross_entropy, example=([{"left": [X, X]}], Y))
    assert described(plan) == [("data", "0.left.0"), ("data", "0.left.1"), ("target", None)]


def test_arrays() -> None:
    model = nn.Linear(6, 3)
    plan = training_plan(model, F.cross_entropy, example=(X.numpy(), Y.numpy()))
    assert [i.dtype for i in plan.inputs[:2]] == ["float32", "int64"]
    assert [i.shape for i in plan.inputs[:2]] == [(None, 6), (None,)]
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    expected = F.cross_entropy(model(torch.from_numpy(x)), Y[:3]).detach()
    torch.testing.assert_close(loss_of(plan, model, x, Y[:3].numpy()), expected)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        ((X.double(), Y), r"fails on its own example.*data of float64"),
        ((X, Y.int()), r"fails on its own example.*target of int32"),
        ((X.half(), Y), r"fails on its own example.*data of float16"),
        (X, r"must be \(data, target\)"),
        ((X, Y, Y), r"must be \(data, target\)"),
        (("text", "more"), r"must be \(data, target\)"),
        ((torch.empty(5, 6, device="meta"), Y), "device 'meta'"),
    ],
)
def test_a_batch_that_workers_could_not_train_on_is_refused(example: Any, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        training_plan(nn.Linear(6, 3), F.cross_entropy, example=example)


@pytest.mark.parametrize("y", [torch.full((5,), 77), torch.full((5,), -3)])
def test_the_values_of_an_example_do_not_matter(y: torch.Tensor) -> None:
    training_plan(nn.Linear(6, 3), F.cross_entropy, example=(X, y))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (nn.LazyLinear(3), "'weight' of LazyLinear has no shape yet"),
        (nn.Linear(6, 3, device="meta"), "'weight' is on the device 'meta'"),
    ],
)
def test_a_model_without_values_is_refused(model: nn.Module, message: str) -> None:
    with pytest.raises(TraceError, match=message):
        training_plan(model, F.cross_entropy, example=(X, Y))


def test_a_loss_that_nothing_trained_goes_into_is_refused() -> None:
    with pytest.raises(TraceError, match="does not depend on any parameter"):
        training_plan(nn.Linear(6, 3), lambda o, y: o.detach().mean(), example=(X, Y))


def test_a_model_that_returns_its_loss() -> None:
    class Own(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(x).square().mean()

    model = Own(6, 3)
    plan = training_plan(model, example=(X, None))
    torch.testing.assert_close(loss_of(plan, model, X), model(X).detach())


def test_a_model_without_a_loss_of_its_own_is_refused() -> None:
    with pytest.raises(TraceError, match=r"a tensor with 2 dimensions, is none and has no `\.loss`"):
        training_plan(nn.Linear(6, 3), example=(X, Y))


def test_an_error_in_the_author_s_code_is_told_with_its_line() -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such label")

    with pytest.raises(TraceError, match=r"failed while .* at test_examples\.py:\d+: 'no such label'"):
        training_plan(nn.Linear(6, 3), loss, example=(X, Y))
