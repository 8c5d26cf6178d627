"""Names of a hosted model's tensors: its Plans have them, and nothing else does."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from torch import Tensor

from fedplan.data.tensor import to_tensor
from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInputSpec
from fedplan.plan.tracing.module import as_travelling
from fedplan.text import did_you_mean

_UNUSED = "num_batches_tracked"
_FEW = 5


def tensor_names(plans: Iterable[Plan], tensors: int) -> list[str] | None:
    """The names of a model's tensors in their order, from the first Plan that names them all.

    Args:
        plans: those of the model.
        tensors: how many tensors the model has.

    Returns:
        The names; None when no Plan names each tensor, and each by another name.
    """
    for plan in plans:
        names = {
            item.spec.index: item.name
            for item in plan.inputs
            if item.spec is not None and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM
        }
        if sorted(index for index in names if index is not None) == list(range(tensors)):
            ordered = [names[index] for index in range(tensors)]
            if len(set(ordered)) == tensors:
                return ordered
    return None


def in_order(named: Mapping[Any, Any], plans: Mapping[str, Plan]) -> list[Tensor]:
    """The tensors of a `state_dict` in the order in which the Plans take them.

    Args:
        named: tensors or arrays by name. The counters of batch norms that no Plan takes are left out, and so
            is a second name of a tensor that is there under the first one.
        plans: those that are to be hosted with it.

    Raises:
        ConfigError: the Plans do not name their tensors, or one lacks in it, or there are others.
    """
    found = [tensor_names([plan], count) for plan in plans.values() if (count := _count(plan))]
    names = next((one for one in found if one is not None), None)
    if names is None:
        raise ConfigError(
            "the model is a dict (a state_dict?), and none of the client_plans names its tensors, so nobody "
            "knows their order: pass the nn.Module, or fedplan.model_parameters(module)"
        )
    missing = [name for name in names if name not in named]
    if missing:
        near = did_you_mean(missing[0], map(str, named))
        raise ConfigError(
            f"the model is a dict without {_listed(missing)}, which the Plan trains{near} Its names are "
            f"{_listed(list(named))}"
        )
    others = [key for key in named if key not in names and not _is_left_out(key, named, names)]
    if others:
        raise ConfigError(
            f"the model is a dict with {_listed(others)}, which the Plan does not know: is it the state_dict "
            "of the module that the Plan was made of? Leave out what is not to be hosted"
        )
    return [_as_hosted(name, named[name]) for name in names]


def _count(plan: Plan) -> int:
    """How many tensors of a model a Plan takes."""
    kind = PlanInputSpec.TYPE_MODEL_PARAM
    return sum(item.spec is not None and item.spec.type == kind for item in plan.inputs)


def _is_left_out(key: Any, named: Mapping[Any, Any], names: list[str]) -> bool:
    if str(key).rpartition(".")[2] == _UNUSED:
        return True
    other = named[key]
    return isinstance(other, Tensor) and any(
        isinstance(named[name], Tensor) and _same(named[name], other) for name in names
    )


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors are one under two names. The address alone does not say it: a part of a tensor may
    have that of the whole, and tensors without elements or values all have the address 0."""
    if one is other:
        return True
    forms = [(tensor.dtype, tensor.shape, tensor.stride()) for tensor in (one, other)]
    return forms[0] == forms[1] and one.data_ptr() == other.data_ptr() != 0


def _as_hosted(name: str, value: Any) -> Tensor:
    if not isinstance(value, Tensor | np.ndarray):
        raise ConfigError(f"'{name}' of the model is a {type(value).__name__}, and no tensor")
    tensor = to_tensor(value)
    return tensor if tensor.is_meta else as_travelling(tensor)


def _listed(names: list[Any]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(f"'{name}'" for name in names[:_FEW]) + more
