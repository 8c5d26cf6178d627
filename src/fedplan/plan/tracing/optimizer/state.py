"""What an optimizer keeps from step to step."""

import dataclasses
from collections.abc import Mapping

import torch
from torch.optim import Optimizer

State = Mapping[int, Mapping[str, torch.Tensor]]
"""By the number of a parameter: the tensors that an optimizer keeps for it, by name."""


@dataclasses.dataclass(frozen=True, slots=True)
class StateTensor:
    """One tensor of an optimizer's state.

    Attributes:
        name: its name in the optimizer.
        parameters: numbers of the parameters that it is kept for; several where it is the same for all of
            them, as a count of steps is.
        shape: its shape.
        dtype: its dtype.
    """

    name: str
    parameters: tuple[int, ...]
    shape: tuple[int, ...]
    dtype: torch.dtype


STARTED = StateTensor("started", (), (), torch.float32)
"""Zero before the first step and one from then on, for an optimizer whose state does not start from zeros."""


def kept_by(optimizer: Optimizer, parameters: Mapping[int, torch.Tensor]) -> State:
    """The tensors that an optimizer keeps, by the number of the parameter."""
    return {
        number: {k: v for k, v in optimizer.state[p].items() if isinstance(v, torch.Tensor)}
        for number, p in parameters.items()
        if p in optimizer.state
    }
