"""Whether a Plan computes what eager PyTorch computes, gradients included, at any number of rows."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from fedplan.plan import Plan, model_parameters, trace, training_plan
from fedplan.plan.run.interpreter import interpret

Batch = Callable[[int], tuple[Any, torch.Tensor]]
"""Rows → (data, target); data may be a list."""

RATE = 0.1
ROUNDING = 1e-6


def squared(output: Any, target: torch.Tensor) -> torch.Tensor:
    """A loss of any output that reaches all of it."""
    parts = [part for part in pytree.tree_leaves(output) if part.is_floating_point()]
    return sum((part.tanh().square().mean() for part in parts), start=target.float().mean() * 0)


def check_training(
    make: Callable[[], nn.Module],
    batch: Batch,
    loss: Callable[[Any, torch.Tensor], torch.Tensor] = squared,
    rows: Sequence[int] = (4, 7, 1),
    steps: int = 2,
    tolerance: float = 1e-5,
) -> Plan:
    """Traces a step, and compares some of them, in both executors, with those of eager PyTorch.

    Not every module can be copied, so one like it is made.
    """
    model = make()
    before = model.state_dict()
    plan = training_plan(model, loss, example=batch(5))
    for count in rows:
        eager = make()
        eager.load_state_dict(before)
        optimizer = torch.optim.SGD([p for p in eager.parameters() if p.requires_grad], lr=RATE)
        parameters = model_parameters(model)
        for _ in range(steps):
            data, target = batch(count)
            flat = [data] if isinstance(data, torch.Tensor) else list(data)
            optimizer.zero_grad()
            cost = loss(eager(*flat), target)
            cost.backward()
            optimizer.step()
            arguments = [*flat, target, torch.tensor([RATE]), *parameters]
            made = plan(*arguments)
            compare(made, interpret(plan.graph, arguments), ROUNDING)
            compare([made[0]], [cost], tolerance)
            parameters = made[1:]
            compare(parameters, model_parameters(eager), tolerance)
    return plan


def check_function(
    function: Callable[..., Any],
    example: Callable[[int], Sequence[torch.Tensor]],
    rows: Sequence[int] = (4, 7, 1),
    tolerance: float = 1e-5,
) -> Plan:
    """Traces a function of a batch, and compares its results, in both executors, with eager PyTorch."""
    plan = trace(function, *example(5))
    for count in rows:
        arguments = example(count)
        expected = [value.detach() for value in pytree.tree_leaves(function(*arguments))]
        given = [argument.detach() for argument in pytree.tree_leaves(list(arguments))]
        made = plan(*given)
        compare(made, interpret(plan.graph, given), ROUNDING)
        compare(made, expected, tolerance)
    return plan


def compare(made: Sequence[torch.Tensor], expected: Sequence[torch.Tensor], tolerance: float) -> None:
    """Differences are relative to the largest number of a tensor, where that is above one."""
    for ours, theirs in zip(made, expected, strict=True):
        assert ours.dtype == theirs.dtype
        finite = theirs[theirs.isfinite()] if theirs.is_floating_point() else theirs
        scale = max(1.0, float(finite.detach().abs().max())) if finite.numel() else 1.0
        torch.testing.assert_close(ours, theirs.detach(), rtol=0, atol=tolerance * scale, equal_nan=True)


def gradient_of(function: Callable[..., Any]) -> Callable[..., list[torch.Tensor]]:
    """The function with the gradient of its results with respect to its last argument."""

    def both(*arguments: torch.Tensor) -> list[torch.Tensor]:
        *others, weight = arguments
        weight = weight.detach().requires_grad_()
        made = [value for value in pytree.tree_leaves(function(*others, weight)) if value.is_floating_point()]
        total = sum((value.tanh().sum() for value in made), start=weight.sum() * 0)
        return [*made, *torch.autograd.grad(total, [weight])]

    return both
