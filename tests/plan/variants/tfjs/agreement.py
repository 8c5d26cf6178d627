"""Whether tfjs computes what a traced function does, at several batch sizes."""

from collections.abc import Callable

import torch

from fedplan.plan import Plan, trace
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.variants.tfjs.interpreter import execute
from fedplan.plan.variants.tfjs.translate import translate
from fedplan.wire import schema


def role_of(plan: Plan) -> schema.Role:
    return translate(plan.graph, plan.inputs)


def close(made: torch.Tensor, expected: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(
        made.to(expected.dtype), expected, rtol=tolerance, atol=tolerance, equal_nan=True
    )


def agrees(
    function: Callable[..., object],
    *examples: torch.Tensor,
    rows: tuple[int, ...] = (3, 8),
    tolerance: float = 1e-5,
) -> None:
    """Translates a traced function, and compares it at several batch sizes."""
    plan = trace(function, *examples)
    role = role_of(plan)
    torch.manual_seed(0)
    for count in rows:
        arguments = [like(example, count) for example in examples]
        for made, expected in zip(execute(role, arguments), interpret(plan.graph, arguments), strict=True):
            close(made, expected, tolerance)


def like(example: torch.Tensor, rows: int) -> torch.Tensor:
    """Random numbers of an example's kind for a batch; itself where it has a gradient or no rows."""
    if example.requires_grad or example.dim() == 0:
        return example.detach()
    shape = (rows, *example.shape[1:])
    if example.dtype == torch.bool:
        return torch.rand(shape) > 0.5
    return torch.randint(0, 3, shape) if not example.is_floating_point() else torch.randn(shape)


def gradients(layer: Callable[..., torch.Tensor]) -> Callable[..., object]:
    """A function of all inputs: a layer's output, and the gradients of those that are no integers."""

    def step(*inputs: torch.Tensor) -> list[torch.Tensor]:
        leaves = [value.detach().requires_grad_() if value.is_floating_point() else value for value in inputs]
        output = layer(*leaves)
        slope = (torch.arange(output.numel() // output.shape[0]) % 7 - 3.0).reshape(output.shape[1:])
        return [
            output,
            *torch.autograd.grad((output * slope).sum(), [leaf for leaf in leaves if leaf.requires_grad]),
        ]

    return step
