"""What stands where in a Plan's arguments, and what is put there before the first batch."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.client.training.device import put
from fedplan.data.tensor import to_tensor
from fedplan.errors import ConfigError
from fedplan.plan import PlanInput, PlanInputSpec, PlanOutputSpec
from fedplan.plan.requirements import config_value


def places_of(specs: Sequence[PlanInputSpec | PlanOutputSpec], *kinds: str) -> list[int]:
    """The places of the specs of some types."""
    return [place for place, spec in enumerate(specs) if spec.type in kinds]


def fixed_value(item: PlanInput, spec: PlanInputSpec, client_config: Mapping[str, Any]) -> Any:
    """The argument for a spec whose value stays the same; None for the others.

    Raises:
        ConfigError: the client_config lacks a key, or the spec holds no value.
    """
    if spec.type == PlanInputSpec.TYPE_CLIENT_CONFIG_PARAM:
        return config_value(item, spec, client_config)
    if spec.type != PlanInputSpec.TYPE_VALUE:
        return None
    if spec.value is None:
        raise ConfigError(
            f"the input '{item.name}' stands for a value, and its spec holds none (a value does not travel "
            "with a Plan): pass inputs=[PlanInputSpec(…), …] with it"
        )
    return to_tensor(spec.value) if isinstance(spec.value, list) else spec.value


def as_declared(value: Any, declared: PlanInput) -> Any:
    """A number as the tensor that the Plan declares; anything else, and where it does not say, as it is.

    A Plan that PySyft made declares nothing; a number gets the shape that it was made with.
    """
    if not isinstance(value, int | float):
        return value
    dtype = torch.float32 if isinstance(value, float) else None
    if declared.made_with is not None and math.prod(declared.made_with) == 1:
        return torch.tensor(value, dtype=dtype).reshape(declared.made_with)
    return value if declared.dtype is None or declared.shape is None else declared.tensor(value)


def zeros_of(
    specs: Sequence[PlanInputSpec], inputs: Sequence[PlanInput], device: torch.device
) -> list[Tensor]:
    """What the optimizer's tensors are before the first batch, in the order of their indices.

    Raises:
        ConfigError: a spec lacks its index, or the Plan does not say a shape.
    """
    zeros: dict[int, Tensor] = {}
    for place in places_of(specs, PlanInputSpec.TYPE_OPTIMIZER_STATE):
        shape, dtype = inputs[place].shape, inputs[place].dtype
        if shape is None or dtype is None or None in shape or specs[place].index is None:
            raise ConfigError(
                f"input {place} is declared as the optimizer's state: its spec needs an index, and the Plan "
                "must say its shape and dtype"
            )
        extents = [extent for extent in shape if extent is not None]
        # one zero seen from everywhere: a shape takes no memory before the Plan is checked
        zero = put(torch.zeros((), dtype=getattr(torch, dtype)), device)
        zeros[specs[place].index or 0] = zero.expand(extents)
    return [zeros[index] for index in sorted(zeros)]
