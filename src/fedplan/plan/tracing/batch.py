"""The example of a batch: what the model and the loss are called with, and as what it becomes inputs."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils import _pytree as pytree

from fedplan.errors import TraceError
from fedplan.plan.spec import PlanInputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Example:
    """A batch as the model owner gives it.

    Attributes:
        data: what the model is called with: a tensor, a list of arguments, or a dict of named ones; each may
            be nested.
        target: what the loss is given besides the model's output; None for nothing.
    """

    data: Any
    target: Any

    @classmethod
    def read(cls, example: Any) -> "Example":
        """Reads `example` of `training_plan`.

        Raises:
            TraceError: it is none of the forms.
        """
        found: Example | None = None
        if isinstance(example, Mapping):
            found = cls(dict(example), None)
        if isinstance(example, list | tuple) and len(example) in (1, 2):
            found = cls(example[0], example[1] if len(example) == 2 else None)
        if found is not None and found.tensors():
            return found
        if found is not None:
            raise TraceError(
                "`example` holds no tensor: make tensors or arrays of its numbers, with the shapes and "
                "dtypes that workers have, as in (torch.tensor(data), torch.tensor(target))"
            )
        raise TraceError(
            f"`example` is a {type(example).__name__}; it must be (data, target), (data, None) or a dict of "
            "the model's arguments, with tensors or arrays of the shapes and dtypes that workers have"
        )

    def call(self, model: Any, data: Any) -> Any:
        """The model's output for data of this form."""
        if isinstance(self.data, Mapping):
            return model(**data)
        return model(*data) if isinstance(self.data, list | tuple) else model(data)

    def tensors(self) -> list[Any]:
        """The tensors and arrays of the data, then of the target; all else stays as it is in every call."""
        return [leaf for leaf in self._leaves() if _is_tensor(leaf)]

    def specs(self) -> list[PlanInputSpec]:
        """What each of `tensors` stands for."""
        kind = PlanInputSpec
        return [*_specs(kind.TYPE_DATA, self.data), *_specs(kind.TYPE_TARGET, self.target)]

    def filled(self, tensors: Sequence[torch.Tensor]) -> tuple[Any, Any]:
        """Data and target of the same form with other tensors."""
        _, structure = pytree.tree_flatten((self.data, self.target))
        given = iter(tensors)
        leaves = [next(given) if _is_tensor(leaf) else leaf for leaf in self._leaves()]
        data, target = pytree.tree_unflatten(leaves, structure)
        return data, target

    def _leaves(self) -> list[Any]:
        return pytree.tree_leaves((self.data, self.target))


def _is_tensor(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor | np.ndarray)


def _specs(kind: str, value: Any) -> list[PlanInputSpec]:
    """By index in a list, by name in a dict, by both joined with dots where these are nested."""
    found = []
    for path, leaf in pytree.tree_flatten_with_path(value)[0]:
        keys = [getattr(step, "idx", getattr(step, "key", None)) for step in path]
        if not _is_tensor(leaf):
            continue
        if len(keys) == 1 and isinstance(keys[0], int):
            found.append(PlanInputSpec(kind, index=keys[0]))
        else:
            found.append(PlanInputSpec(kind, name=".".join(map(str, keys)) if keys else None))
    return found


def detached(value: Any) -> Any:
    """The same without gradients, whatever it is made of."""
    return pytree.tree_map_only(torch.Tensor, torch.Tensor.detach, value)


def _kind(output: Any) -> str:
    if isinstance(output, torch.Tensor):
        return f"tensor with {output.dim()} dimensions"
    return type(output).__name__


def loss_of(output: Any) -> torch.Tensor:
    """The loss that a model computes itself: its output, or a part of it as with Hugging Face's models.

    Raises:
        TraceError: the output holds none.
    """
    if isinstance(output, torch.Tensor) and output.dim() == 0:
        return output
    found = output.get("loss") if isinstance(output, Mapping) else getattr(output, "loss", None)
    if not isinstance(found, torch.Tensor):
        raise TraceError(
            f"no loss was given, and the model's output, a {_kind(output)}, is none and has no `.loss`: pass "
            "a loss, or the labels that the model computes its loss from"
        )
    return found
