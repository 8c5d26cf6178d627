"""One step as PyTorch does it, with the model's own parameters, beside which a Plan is held."""

import contextlib
import dataclasses
from collections.abc import Iterator

import torch
from torch import nn

from fedplan.plan.tracing.batch import Example
from fedplan.plan.tracing.first_run import Expected, expected_of, largest
from fedplan.plan.tracing.module import module_tensors
from fedplan.plan.tracing.optimizer.update import Update
from fedplan.plan.tracing.step import Step
from fedplan.plan.tracing.unchanged import unchanged


@dataclasses.dataclass(frozen=True, slots=True)
class Untraced:
    """The step of a model with an optimizer that has no state yet.

    Attributes:
        model: the author's; it is left as it was.
        step: what is traced.
        update: the optimizer.
        example: what a batch is like.
        lr: the learning rate.
    """

    model: nn.Module
    step: Step
    update: Update
    example: Example
    lr: float

    def __call__(self, *values: torch.Tensor) -> list[Expected | None]:
        """What the first results of the step are; None for one that is not known.

        Args:
            values: of the batch, then others, which are the model's own.
        """
        data, target = self.example.filled(values[: len(self.example.tensors())])
        names, trained = self.step.tensors, self.step.trainable
        parameters = dict(self.model.named_parameters())
        with _restored(self.model), unchanged(self.model):
            before = {name: tensor.clone() for name, tensor in names.items()}
            cost, measured = self.step.measured(data, target)
            gradients = [parameters[name].grad for name in trained]
            clipped = self.step.clipped(gradients)
            after = {name: tensor.clone() for name, tensor in module_tensors(self.model).items()}
            new = [after[name].clone() for name in trained]  # a layer may have written to its weights
            self.update.first(new, clipped, self.lr)
        found: dict[str, Expected | None] = {
            name: Expected(after[name], before[name]) for name in names if name not in trained
        }
        greatest = max((largest(gradient) for gradient in clipped if gradient is not None), default=0.0)
        for name, gradient, value in zip(trained, clipped, new, strict=True):
            if self.update.goes_by_size:
                found[name] = Expected(value, before[name], noise=_ROUNDING * self.lr * greatest)
            else:
                found[name] = Expected(value, before[name], _certain(gradient, value, greatest))
        return [*expected_of([cost, *measured], [cost, *values]), *(found[name] for name in names)]


def untraced(model: nn.Module, step: Step, update: Update, example: Example, lr: float) -> "Untraced | None":
    """The step untraced; None where it has more than a batch to go by, or a model that is not on the CPU."""
    is_here = all(tensor.device.type == "cpu" for tensor in step.tensors.values())
    return Untraced(model, step, update, example, lr) if is_here and not step.has_context else None


_ROUNDING = 1e-3
"""Of the greatest gradient: smaller ones may be nothing but rounding, where the true one is zero."""


def _certain(gradient: torch.Tensor | None, value: torch.Tensor, greatest: float) -> torch.Tensor:
    """Where an optimizer that takes a gradient of any size for a direction has one to go by."""
    if gradient is None or greatest == 0:
        return torch.ones_like(value, dtype=torch.bool)
    sizes = gradient.detach().abs()
    return sizes > max(0.01 * largest(gradient), _ROUNDING * greatest)


@contextlib.contextmanager
def _restored(model: nn.Module) -> Iterator[None]:
    """Has the values of a model's tensors put back, and its gradients taken away meanwhile."""
    tensors = [*model.parameters(), *model.buffers()]
    values = [tensor.detach().clone() for tensor in tensors]
    for parameter in model.parameters():
        parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for tensor, value in zip(tensors, values, strict=True):
                tensor.copy_(value)
