"""A graph without some of its operations computes the same, and its other values keep their numbers."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import PlanFormatError, TranslationError
from fedplan.plan import Plan, PlanInput, model_parameters, trace, training_plan
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ir.verify import verify
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.expansions import EXPANSIONS
from fedplan.plan.variants.torchscript.parts import without

CONVOLUTIONS = {"aten.convolution_backward.default"}


def step() -> tuple[Plan, list[torch.Tensor]]:
    """A step of a network with three convolutions, of which two are alike."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 4, 3, padding=1), nn.Tanh()),
        *(nn.Conv2d(4, 4, 3, padding=1), nn.Flatten(), nn.Linear(4 * 16, 3)),
    )
    plan = training_plan(model, F.cross_entropy, example=(torch.randn(4, 2, 6, 6), torch.zeros(4).long()))
    data = [torch.randn(5, 2, 6, 6), torch.randint(0, 3, (5,)), torch.tensor([0.1])]
    return plan, [*data, *model_parameters(model)]


def test_it_computes_the_same_at_another_batch_size() -> None:
    plan, arguments = step()
    graph = without(plan.graph, plan.inputs, CONVOLUTIONS)
    verify(graph)
    assert not any(node.op in CONVOLUTIONS for node in graph.nodes)
    for ours, theirs in zip(interpret(graph, arguments), interpret(plan.graph, arguments), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_values_keep_their_numbers() -> None:
    plan, arguments = step()
    made: dict[int, torch.Tensor] = {}
    interpret(plan.graph, arguments, lambda _, number, value: made.update({number: value}))
    graph = without(plan.graph, plan.inputs, CONVOLUTIONS)
    seen = []

    def observe(_: Node, number: int, value: object) -> None:
        if number in made and isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, made[number])
            seen.append(number)

    interpret(graph, arguments, observe)
    wanted = {n for node in plan.graph.nodes for n in node.results if isinstance(made[n], torch.Tensor)}
    assert wanted == set(seen)


def test_a_graph_without_them_is_itself() -> None:
    plan = trace(lambda x: x + 1, torch.zeros(4))
    assert without(plan.graph, (), CONVOLUTIONS) is plan.graph


def test_shapes_must_be_known() -> None:
    plan, _ = step()
    unknown = [PlanInput(item.name) for item in plan.inputs]
    with pytest.raises(PlanFormatError, match="does not say the shape"):
        without(plan.graph, unknown, CONVOLUTIONS)


def test_a_picture_that_grows_with_the_batch_is_refused() -> None:
    def layer(x: torch.Tensor, w: torch.Tensor) -> torch.Tensor:
        leaf = w.detach().requires_grad_()
        return torch.autograd.grad(F.conv1d(x.t().unsqueeze(0), leaf).sum(), [leaf])[0]

    plan = trace(layer, torch.zeros(4, 3), torch.ones(1, 3, 1).requires_grad_())
    with pytest.raises(TranslationError, match="pin_batch=True"):
        without(plan.graph, plan.inputs, CONVOLUTIONS)


def test_a_result_may_be_another_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """An expansion that answers with what it was given."""
    monkeypatch.setitem(EXPANSIONS, "aten.relu.default", lambda x: x)  # type: ignore[arg-type]
    same = Node("aten.relu.default", (Ref(0),), (1,))
    twice = Node("aten.mul.Tensor", (Ref(1), 2), (2,))
    graph = Graph((0,), (), (same, twice), (1, 2))
    left = without(graph, (PlanInput("x", (None, 3), "float32"),), {same.op})
    assert [node.op for node in left.nodes] == [twice.op]
    x = torch.randn(5, 3)
    for ours, theirs in zip(interpret(left, [x]), (x, x * 2), strict=True):
        assert torch.equal(ours, theirs)
