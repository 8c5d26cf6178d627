"""What a model owner hands over to be hosted: checked, and in the protocol's form."""

from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from fedplan.client.model import SyftModel
from fedplan.client.owner.naming import in_order
from fedplan.data.tensor import to_tensor
from fedplan.errors import ConfigError, DataError, WireError
from fedplan.plan import Plan, from_torch, model_parameters
from fedplan.wire import State, WireTensor
from fedplan.wire.messages import MOST_NAMES

_T = TypeVar("_T")


def state_of(model: Any, plans: Mapping[str, Plan]) -> State:
    """The State that is hosted for a model.

    Args:
        model: see `ModelCentricFLClient.host_federated_training_async`.
        plans: those that are hosted with it; they know the order of a `state_dict`'s tensors.

    Raises:
        ConfigError: it is no model, or holds something that is no tensor, or a tensor that has no values.
    """
    if isinstance(model, Mapping):
        model = in_order(model, plans)
    try:
        state = model if isinstance(model, State) else State.of(_wire_tensors(_tensors_of(model)))
        tensors, part = state.tensors, state.places
    except WireError as error:
        raise ConfigError(f"the model cannot be hosted: {error}") from error
    if part is not None:
        raise ConfigError("the model cannot be hosted: the State holds only a part of a model")
    if not tensors:
        raise ConfigError("the model cannot be hosted: it has no tensors, so there is nothing to train")
    return state


def _tensors_of(model: Any) -> Iterable[Any]:
    if isinstance(model, SyftModel):
        return model.params
    if isinstance(model, nn.Module):
        if any(is_lazy(tensor) for tensor in (*model.parameters(), *model.buffers())):
            raise ConfigError(
                "the model cannot be hosted: some of its parameters have no shape yet (a lazy layer). Run a "
                "batch through it first"
            )
        return model_parameters(model)
    if isinstance(model, Tensor | np.ndarray | str | bytes) or not isinstance(model, Iterable):
        raise ConfigError(
            f"the model is a {type(model).__name__}; it must be an nn.Module, a state_dict, a SyftModel, a "
            "State or a list of tensors"
        )
    return model


def _wire_tensors(tensors: Iterable[Any]) -> Iterable[WireTensor]:
    for index, value in enumerate(tensors):
        if not isinstance(value, Tensor | np.ndarray):
            raise ConfigError(f"element {index} of the model is a {type(value).__name__}, and no tensor")
        try:
            tensor = to_tensor(value)
        except DataError as error:
            raise ConfigError(f"element {index} of the model: {error}") from None
        if tensor.is_meta:
            raise ConfigError(f"tensor {index} of the model has no values: it is on the device 'meta'")
        if tensor.layout != torch.strided:
            raise ConfigError(f"tensor {index} of the model is sparse; make it dense with .to_dense()")
        yield from_torch(tensor)


def plans_of(client_plans: Any) -> dict[str, Plan]:
    """The Plans by name.

    Raises:
        ConfigError: there is none, or something else is among them.
    """
    return _named(client_plans, Plan, "client_plans", "Plan.parse(…) reads its bytes", least=1)


def named_messages(given: Any, kind: type[_T], what: str) -> dict[str, _T]:
    """Messages by name; none when nothing is given.

    Raises:
        ConfigError: something else is among them.
    """
    return _named(given or {}, kind, what, f"{kind.__name__}.decode(…) reads its bytes", least=0)


def check_is_plan(plan: Any, what: str) -> None:
    """Raises ConfigError when this is no Plan."""
    if not isinstance(plan, Plan):
        raise ConfigError(f"{what} is a {type(plan).__name__}, and no Plan; Plan.parse(…) reads its bytes")


def _named(given: Any, kind: type[_T], what: str, advice: str, *, least: int) -> dict[str, _T]:
    if not isinstance(given, Mapping):
        raise ConfigError(
            f"{what} is a {type(given).__name__}; a dict with names is needed, such as "
            f"{{'training_plan': plan}}"
        )
    if len(given) < least:
        raise ConfigError(f"{what} is empty: workers would have nothing to run")
    if len(given) > MOST_NAMES:
        raise ConfigError(f"{what} has {len(given)} entries; a grid takes at most {MOST_NAMES}")
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise ConfigError(f"{what}: the name {name!r} is no text")
        if not isinstance(value, kind):
            raise ConfigError(
                f"{what}['{name}'] is a {type(value).__name__}, and no {kind.__name__}; {advice}"
            )
    return dict(given)


def variants_of(variants: Any) -> list[str] | None:
    """The names of variants; None for all that can be had.

    Raises:
        ConfigError: it is a single text, or no collection.
    """
    if variants is None:
        return None
    if isinstance(variants, str | bytes) or not isinstance(variants, Iterable):
        raise ConfigError(f"variants must be a list of names, such as ['tfjs'], not {variants!r}")
    names = list(variants)
    if not all(isinstance(name, str) for name in names):
        raise ConfigError(f"variants must be names, such as 'tfjs'; these are {names!r}")
    return names
