"""Gradients with respect to the data: a step may make a tensor of its own that requires one."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from tests.plan.tracing.agreement import check_training


def batch(rows: int) -> tuple[Tensor, Tensor]:
    return torch.randn(rows, 6), torch.randn(rows, 3)


class Net(nn.Module):
    """A small network, and what a test adds to its output."""

    def __init__(self, addition: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Linear(6, 8), nn.Softplus(), nn.Linear(8, 3))
        self.addition = addition

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(x)
        return out + self.addition(self.body, x)


def penalty(body: nn.Module, x: Tensor) -> Tensor:
    """As in WGAN-GP: a gradient that the step's own gradient goes through."""
    point = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(body(point).sum(), point, create_graph=True)
    return (gradient.norm(dim=1, keepdim=True) - 1).square()


def curvature(body: nn.Module, x: Tensor) -> Tensor:
    """As in networks that solve differential equations: a second derivative by the data."""
    point = x.clone().requires_grad_()
    (first,) = torch.autograd.grad(body(point).sum(), point, create_graph=True)
    (second,) = torch.autograd.grad(first[:, 0].sum(), point, create_graph=True)
    return second[:, :3]


def adversarial(body: nn.Module, x: Tensor) -> Tensor:
    """As in adversarial training: the step goes on with data that a gradient has changed."""
    point = x.detach().requires_grad_()
    (gradient,) = torch.autograd.grad((body(point) - 1).square().mean(), point)
    changed: Tensor = body(x + 0.1 * gradient.tanh())
    return changed


@pytest.mark.parametrize("addition", [penalty, curvature, adversarial])
def test_such_a_step_trains_as_in_eager_pytorch(addition: Callable[[nn.Module, Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    check_training(lambda: Net(addition), batch)
