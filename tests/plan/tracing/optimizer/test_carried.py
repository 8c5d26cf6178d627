"""An optimizer that was made for the model: what its groups do not tell is not lost without a word."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from fedplan.errors import TraceError
from fedplan.plan import training_plan

X, Y = torch.ones(4, 2), torch.ones(4, 1)


class Scaled(torch.optim.SGD):
    """SGD on gradients that it scales."""

    def __init__(self, params: Any, lr: float = 0.1, factor: float = 1.0) -> None:
        super().__init__(params, lr=lr)
        self.factor = factor

    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad.mul_(self.factor)
        super().step()


def model() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(2, 1)


def with_hook(register: str) -> Callable[[nn.Module], torch.optim.Optimizer]:
    def make(of: nn.Module) -> torch.optim.Optimizer:
        optimizer = torch.optim.SGD(of.parameters(), lr=0.1)
        getattr(optimizer, register)(lambda *_: None)
        return optimizer

    return make


def replaced(of: nn.Module) -> torch.optim.Optimizer:
    optimizer = torch.optim.SGD(of.parameters(), lr=0.1)
    optimizer.step = lambda closure=None: None  # type: ignore[method-assign,assignment]
    return optimizer


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda of: Scaled(of.parameters(), factor=0.25), "'factor'"),
        (with_hook("register_step_pre_hook"), "'_optimizer_step_pre_hooks'"),
        (with_hook("register_step_post_hook"), "'_optimizer_step_post_hooks'"),
        (replaced, "'step'"),
    ],
)
def test_what_would_be_lost_is_named(make: Callable[[nn.Module], torch.optim.Optimizer], told: str) -> None:
    of = model()
    with pytest.raises(TraceError, match=rf"holds {told}, which its groups .* functools\.partial"):
        training_plan(of, F.mse_loss, example=(X, Y), optimizer=make(of))


def test_what_makes_it_may_be_given_instead() -> None:
    of = model()
    plan = training_plan(of, F.mse_loss, example=(X, Y), optimizer=lambda p: Scaled(p, factor=0.25))
    _, *after = plan(X, Y, 0.1, *(p.detach() for p in of.parameters()))
    Scaled(of.parameters(), factor=1.0).zero_grad()
    F.mse_loss(of(X), Y).backward()
    Scaled(of.parameters(), factor=0.25).step()
    torch.testing.assert_close(after, [p.detach() for p in of.parameters()])


def test_a_scheduler_that_holds_it_changes_nothing() -> None:
    of = model()
    optimizer = torch.optim.SGD(of.parameters(), lr=0.1, momentum=0.9)
    torch.optim.lr_scheduler.StepLR(optimizer, 1)
    assert training_plan(of, F.mse_loss, example=(X, Y), optimizer=optimizer)
