"""A training step is held beside PyTorch's own first step: its loss, its gradients and its optimizer."""

import functools
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import training_plan

X, Y = torch.randn(8, 4), torch.randint(0, 3, (8,))
KEPT: list[object] = []
"""Nodes of autograd that live as long as a test does."""


def no_gradients(model: nn.Module) -> None:
    """By hooks that PyTorch keeps at the parameters' nodes, which no other tensor has."""

    def zero(gradients: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(gradient * 0 for gradient in gradients)

    for parameter in model.parameters():
        node = parameter.expand_as(parameter).grad_fn.next_functions[0][0]  # type: ignore[union-attr]
        node.register_prehook(zero)
        KEPT.append(node)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam])
def test_a_gradient_that_is_another_when_it_is_traced_is_refused(
    optimizer: type[torch.optim.Optimizer],
) -> None:
    model = nn.Linear(4, 3)
    no_gradients(model)
    with pytest.raises(TraceError, match=r"the Plan's 'weight' of the example .*hooks on nodes of autograd"):
        training_plan(model, F.cross_entropy, example=(X, Y), optimizer=optimizer)


def test_so_is_a_loss_that_looks_at_types() -> None:
    def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(output, target) * (2 if type(output) is torch.Tensor else 1)

    with pytest.raises(TraceError, match="the Plan's 'loss' of the example is"):
        training_plan(nn.Linear(4, 3), loss, example=(X, Y))


def test_parameters_are_parameters_in_a_step() -> None:
    model = nn.Linear(4, 3)

    def decayed(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        held = [value for _, value in model.named_parameters() if isinstance(value, nn.Parameter)]
        assert len(held) == 2
        return F.cross_entropy(output, target) + sum(value.square().sum() for value in held)

    plan = training_plan(model, decayed, example=(X, Y))
    loss = plan(X, Y, 0.1, *(p.detach() for p in model.parameters()))[0]
    torch.testing.assert_close(loss, decayed(model(X), Y).detach())


class Attention(nn.Module):
    """Its keys have a bias whose gradient is nothing but rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.out = nn.Linear(4, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x[:, None] * torch.arange(1.0, 4.0)[:, None]
        found: torch.Tensor = self.out(self.attention(x, x, x, need_weights=False)[0].mean(1))
        return found


MODELS: dict[str, Callable[[], nn.Module]] = {
    "attention": Attention,
    "a bias before a batch norm": lambda: nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)),
    "a layer that is dead": lambda: nn.Sequential(nn.Linear(4, 5), nn.Hardtanh(9, 10), nn.Linear(5, 3)),
}


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.Adam, torch.optim.Rprop])
@pytest.mark.parametrize("name", MODELS)
def test_rounding_is_no_difference(name: str, optimizer: type[torch.optim.Optimizer]) -> None:
    for seed in range(3):
        torch.manual_seed(seed)
        training_plan(MODELS[name](), F.cross_entropy, example=(X, Y), optimizer=optimizer)


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
    gradient = torch.ones(3)
    model[0].bias.grad = gradient
    before = {name: value.clone() for name, value in model.state_dict().items()}
    training_plan(
        model, F.cross_entropy, example=(X, Y), optimizer=functools.partial(torch.optim.SGD, momentum=0.9)
    )
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    assert model[0].bias.grad is gradient
    assert model[0].weight.grad is None
