"""What a loss may know of its step besides the model's output."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch

from fedplan.errors import TraceError
from fedplan.text import did_you_mean


class ConfigNumbers(dict[str, torch.Tensor]):
    """Numbers of the client_config by key."""

    def __missing__(self, key: str) -> torch.Tensor:
        """Says how a key comes to be here."""
        raise TraceError(
            f"the loss or a metric reads step.config['{key}'], and training_plan was not told of that key: "
            f"pass config={[*self, key]}"
        )


class NamedTensors(dict[str, torch.Tensor]):
    """The model's tensors by name."""

    def __missing__(self, name: str) -> torch.Tensor:
        """Says which names there are."""
        raise TraceError(
            f"the loss or a metric reads a tensor '{name}' of the model, which has {', '.join(self)}"
            f"{did_you_mean(name, list(self))}"
        )


@dataclasses.dataclass(frozen=True, slots=True)
class StepContext:
    """What `training_plan` gives to a loss or metric that has an argument `step`.

    Attributes:
        parameters: the model's tensors as they are in this step, by name; gradients go to those that are
            trained.
        received: the model's tensors as the worker received them in this cycle, by name. A penalty on the
            distance to them is FedProx; a model run with them (`torch.func.functional_call`) is a teacher.
        number: of the batch in the cycle, from 0; int64, no dimensions.
        cycle: number of the cycle, 1 being the first one of the model on its grid; int64, no dimensions. It
            is the number that `fedplan status` shows.
        config: numbers of the client_config by key, for the keys in `config` of `training_plan`; float32, no
            dimensions.
    """

    parameters: Mapping[str, torch.Tensor]
    received: Mapping[str, torch.Tensor]
    number: torch.Tensor
    cycle: torch.Tensor
    config: Mapping[str, torch.Tensor]


def wants_context(function: Callable[..., Any] | None) -> bool:
    """Whether a loss or metric has an argument `step`."""
    if function is None:
        return False
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):  # functions of C have none
        return False
    return "step" in parameters
