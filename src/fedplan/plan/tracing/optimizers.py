"""`torch.optim` optimizers inside a Plan: their state goes in and comes out as tensors.

Nothing of an update is written here. The optimizer itself runs while the step is traced, in the mode that
PyTorch offers for differentiating through it: there its arithmetic stays in tensors.
"""

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.optim import Optimizer

from fedplan.errors import TraceError

OptimizerFactory = Callable[[Any], Optimizer]
"""Makes an optimizer for a list of tensors: `torch.optim.Adam`, or a `functools.partial` of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class StateTensor:
    """One tensor of an optimizer's state: of which parameter, under which name, as what."""

    parameter: int
    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """An optimizer as a function: (parameters, gradients, state, learning rate) → (parameters, state).

    Attributes:
        make: makes the optimizer for a list of parameters.
        state: the tensors that it keeps between steps; all start as zeros.
        lr: the learning rate that it was made with.
    """

    make: OptimizerFactory
    state: tuple[StateTensor, ...]
    lr: float

    def __call__(
        self,
        parameters: Sequence[torch.Tensor],
        gradients: Sequence[torch.Tensor],
        state: Sequence[torch.Tensor],
        lr: torch.Tensor | float,
    ) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
        """One step. The arguments are not changed.

        Args:
            parameters: the tensors to update.
            gradients: of the same shapes.
            state: one tensor for each of `self.state`.
            lr: the learning rate; a tensor of one element, or a number.
        """
        owned = [p.detach().clone() for p in parameters]
        for parameter, gradient in zip(owned, gradients, strict=True):
            parameter.grad = gradient.detach()
        optimizer = self.make(owned)
        group = optimizer.param_groups[0]
        group.update(foreach=False, differentiable=True, fused=False)
        # a learning rate that asks for a gradient makes SGD multiply by it instead of reading its value
        group["lr"] = lr.detach().reshape(()).requires_grad_() if isinstance(lr, torch.Tensor) else lr
        for tensor, value in zip(self.state, state, strict=True):
            optimizer.state[owned[tensor.parameter]][tensor.name] = value.detach().clone()
        optimizer.step()
        return owned, [optimizer.state[owned[s.parameter]][s.name] for s in self.state]


def read_optimizer(optimizer: Optimizer | OptimizerFactory, parameters: Iterable[torch.Tensor]) -> Update:
    """The update that an optimizer makes, and the state that it needs.

    Args:
        optimizer: a class such as `torch.optim.SGD`, a `functools.partial` of one, or an optimizer that was
            made for the model (its settings are taken, not its state).
        parameters: the parameters that will be trained.

    Raises:
        TraceError: its settings differ between parameters, or its first step is not the one from zeros.
    """
    make = _remake(optimizer) if isinstance(optimizer, Optimizer) else optimizer
    owned = [p.detach().clone() for p in parameters]
    probe = _stepped(make, owned, {})
    state = tuple(
        StateTensor(index, name, tuple(value.shape), value.dtype)
        for index, parameter in enumerate(probe.param_groups[0]["params"])
        for name, value in probe.state[parameter].items()
        if isinstance(value, torch.Tensor)
    )
    update = Update(make, state, float(probe.param_groups[0]["lr"]))
    _check_starts_from_zeros(probe, make, owned, state)
    return update


def check_takes_tensor_rate(update: Update, parameters: Sequence[torch.Tensor]) -> None:
    """Tries a step in which the learning rate is a tensor without a value.

    Raises:
        TraceError: the optimizer reads the rate into Python.
    """
    with FakeTensorMode() as mode:
        fakes = [mode.from_tensor(p) for p in parameters]
        state = [torch.zeros(s.shape, dtype=s.dtype) for s in update.state]
        try:
            update(fakes, fakes, state, torch.empty(1))
        except (DataDependentOutputException, TypeError) as error:
            raise TraceError(
                "this optimizer reads its learning rate into Python, so the rate cannot come from the "
                "client_config. Pass lr=0.01 (a number that the Plan keeps), or take SGD, Adam or AdamW."
            ) from error


def _remake(optimizer: Optimizer) -> OptimizerFactory:
    if len(optimizer.param_groups) != 1:
        raise TraceError(
            f"the optimizer has {len(optimizer.param_groups)} parameter groups; a Plan takes one. Put all "
            "parameters into one group, or write the step yourself and use fedplan.trace."
        )
    settings = {name: optimizer.param_groups[0][name] for name in optimizer.defaults}
    kind: Callable[..., Optimizer] = type(optimizer)
    return lambda parameters: kind(parameters, **settings)


def _stepped(
    make: OptimizerFactory, parameters: Sequence[torch.Tensor], state: dict[int, dict[str, torch.Tensor]]
) -> Optimizer:
    """An optimizer after one step on made-up gradients, always the same."""
    owned = [p.clone() for p in parameters]
    chance = torch.Generator().manual_seed(0)
    for parameter in owned:
        parameter.grad = torch.randn(parameter.shape, generator=chance, dtype=parameter.dtype)
    optimizer = make(owned)
    optimizer.param_groups[0].update(foreach=False)
    for index, values in state.items():
        optimizer.state[owned[index]].update(values)
    optimizer.step()
    return optimizer


def _check_starts_from_zeros(
    first: Optimizer, make: OptimizerFactory, parameters: Sequence[torch.Tensor], state: Sequence[StateTensor]
) -> None:
    zeros: dict[int, dict[str, torch.Tensor]] = {}
    for tensor in state:
        zeros.setdefault(tensor.parameter, {})[tensor.name] = torch.zeros(tensor.shape, dtype=tensor.dtype)
    again = _stepped(make, parameters, zeros)
    pairs = zip(first.param_groups[0]["params"], again.param_groups[0]["params"], strict=True)
    if not all(torch.allclose(one, other, equal_nan=True) for one, other in pairs):
        raise TraceError(
            f"{type(first).__name__} does not start from a state of zeros, as a Plan's optimizer must "
            "(SGD without dampening, Adam, AdamW, RMSprop and Adagrad do)"
        )
