"""SyftModel: a model's parameters, as the grid keeps them."""

from collections.abc import Iterable, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from fedplan.errors import ModelMismatchError
from fedplan.plan import from_torch, model_parameters, to_torch
from fedplan.wire import State


class SyftModel:
    """Model parameters as stored in the grid.

    The names that the reference has as coroutines are coroutines here. They need no network, so each has a
    plain form too: `serialize` and `diff`.

    Attributes:
        params: the parameters, in the order of `fedplan.plan.model_parameters` where an `nn.Module` was
            hosted.
    """

    def __init__(self, params: Sequence[Tensor]) -> None:
        """A model of these parameters; the tensors are used as they are, not copied.

        Raises:
            ModelMismatchError: they are no list of tensors.
        """
        self.params = _tensors(params, "the parameters of a SyftModel")

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads a model from the bytes of a State.

        Raises:
            WireError: they are not a State.
        """
        return cls([to_torch(tensor) for tensor in State.parse(data).tensors])

    def serialize(self) -> bytes:
        """The model as a State's bytes."""
        return State.of(from_torch(param) for param in self.params).serialize()

    def diff(self, updated: "SyftModel | Sequence[Tensor]") -> "SyftModel":
        """This model minus another: what a worker reports, when `updated` is what it trained.

        Args:
            updated: a model, or parameters; as many as here, with the same shapes.

        Raises:
            ModelMismatchError: they do not fit.
        """
        whose = "the updated parameters"
        params = updated.params if isinstance(updated, SyftModel) else _tensors(updated, whose)
        self.check_fit(params, whose)
        with torch.no_grad():
            return SyftModel([a - b for a, b in zip(self.params, params, strict=True)])

    def load_into(self, module: nn.Module) -> None:
        """Copies the parameters into a module of the architecture that was hosted.

        Args:
            module: its parameters and floating-point buffers are overwritten, in `state_dict` order.

        Raises:
            ModelMismatchError: the module's parameters differ in number or shape; nothing was copied.
        """
        if not isinstance(module, nn.Module):
            raise ModelMismatchError(
                f"a model is loaded into an nn.Module, not into a {type(module).__name__}"
            )
        targets = model_parameters(module)
        self.check_fit(targets, "the module's parameters")
        with torch.no_grad():
            for target, param in zip(targets, self.params, strict=True):
                target.copy_(param)

    def check_fit(self, params: Sequence[Tensor], whose: str) -> None:
        """Compares numbers and shapes.

        Raises:
            ModelMismatchError: they differ; the message says where.
        """
        if len(params) != len(self.params):
            raise ModelMismatchError(
                f"the model has {len(self.params)} parameters, {whose} are {len(params)}"
            )
        for index, (own, other) in enumerate(zip(self.params, params, strict=True)):
            if own.shape != other.shape:
                raise ModelMismatchError(
                    f"parameter {index} of the model has the shape {list(own.shape)}; of {whose} it has "
                    f"{list(other.shape)}"
                )

    async def to_protobuf(self) -> bytes:
        """The model serialized to protobuf. `serialize` is the plain form."""
        return self.serialize()

    async def create_serialized_diff(self, updated_model_params: Sequence[Tensor]) -> bytes:
        """Serialized difference between this model and updated parameters, as `Job.report` takes it.

        Args:
            updated_model_params: the trained parameters.

        Returns:
            A State's bytes: original − trained.

        Raises:
            ModelMismatchError: number or shapes differ.
        """
        return self.diff(updated_model_params).serialize()

    async def create_serialized_diff_from_model(self, model: "SyftModel") -> bytes:
        """Serialized difference between this model and a trained one, as `Job.report` takes it.

        Args:
            model: the trained model.

        Returns:
            A State's bytes: original − trained.

        Raises:
            ModelMismatchError: number or shapes differ.
        """
        return self.diff(model).serialize()


def _tensors(value: Any, whose: str) -> list[Tensor]:
    """A list of tensors, checked: what is none would be found out far away from here."""
    if not isinstance(value, Iterable) or isinstance(value, Tensor | nn.Module):
        raise ModelMismatchError(
            f"{whose} must be a list of tensors, not a {type(value).__name__}; those of an nn.Module are "
            "fedplan.model_parameters(module)"
        )
    tensors = list(value)
    for index, tensor in enumerate(tensors):
        if not isinstance(tensor, Tensor):
            raise ModelMismatchError(f"{whose}: element {index} is a {type(tensor).__name__}, and no tensor")
    return tensors
