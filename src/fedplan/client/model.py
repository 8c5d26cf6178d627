"""SyftModel: a model's parameters, as the grid keeps them."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Self

import torch
from torch import Tensor, nn

from fedplan.errors import ModelMismatchError, WireError
from fedplan.plan import from_torch, model_parameters, to_torch
from fedplan.wire import State
from fedplan.wire.state import Places


class SyftModel:
    """Model parameters as stored in the grid.

    The names that the reference has as coroutines are coroutines here. They need no network, so each has a
    plain form too: `serialize` and `diff`.

    Attributes:
        params: the parameters, in the order of `fedplan.plan.model_parameters` where an `nn.Module` was
            hosted.
        changing: which of them a report needs to hold, by their index, as the grid told; None for all. The
            others are frozen (the model's Plans leave them as they are) or private.
        private: which of them the worker keeps for itself, by their index; a difference is zero there.
    """

    def __init__(
        self, params: Sequence[Tensor], changing: Places = None, private: Sequence[int] = ()
    ) -> None:
        """A model of these parameters; the tensors are used as they are, not copied.

        Raises:
            ModelMismatchError: they are no list of tensors.
        """
        self.params = _tensors(params, "the parameters of a SyftModel")
        self.changing = changing
        self.private = tuple(private)

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads a model from the bytes of a State.

        Raises:
            WireError: they are not a State, or one that holds only a part of a model.
        """
        return cls.of(State.parse(data))

    @classmethod
    def of(cls, state: State) -> Self:
        """The model that a State holds.

        Raises:
            WireError: it is damaged, or holds only a part of a model.
        """
        if state.places is not None:
            raise WireError(
                f"the State holds only the tensors {', '.join(map(str, state.places))} of a model; a State's "
                "`tensors` reads them"
            )
        return cls([to_torch(tensor) for tensor in state.tensors])

    def serialize(self) -> bytes:
        """The model as a State's bytes."""
        return State.of(from_torch(param) for param in self.params).serialize()

    def diff(self, updated: "SyftModel | Sequence[Tensor]") -> "SyftModel":
        """This model minus another: what a worker has learnt, when `updated` is what it trained.

        Of private tensors nothing is told: the difference is zero there, whoever averages it.

        Args:
            updated: a model, or parameters; as many as here, with the same shapes, on any device.

        Raises:
            ModelMismatchError: they do not fit.
        """
        whose = "the updated parameters"
        params = updated.params if isinstance(updated, SyftModel) else _tensors(updated, whose)
        self.check_fit(params, whose)
        with torch.no_grad():
            apart = [
                torch.zeros_like(a) if place in self.private else a - b.to(a.device)
                for place, (a, b) in enumerate(zip(self.params, params, strict=True))
            ]
        return SyftModel(apart, self.changing, self.private)

    def with_private(self, tensors: Mapping[int, Tensor], private: Sequence[int]) -> "SyftModel":
        """This model with a worker's own tensors in it; the others are shared with it.

        Args:
            tensors: the private ones by their places; none for those of this model.
            private: these places.

        Raises:
            ModelMismatchError: the tensors are at other places, or do not fit.
        """
        if tensors and sorted(tensors) != sorted(private):
            raise ModelMismatchError(f"the private tensors are {sorted(tensors)}, and not {sorted(private)}")
        params = [tensors.get(place, param) for place, param in enumerate(self.params)]
        self.check_fit(params, "the private tensors in it")
        return SyftModel(params, self.changing, private)

    def changes(self) -> list[Tensor]:
        """Of a diff, the tensors that are reported: those that `changing` names.

        Raises:
            ModelMismatchError: another one is not zero throughout.
        """
        if self.changing is None:
            return self.params
        changing = set(self.changing)
        for index, param in enumerate(self.params):
            if index not in changing and bool(param.any()):
                raise ModelMismatchError(
                    f"parameter {index} of the model was changed, and is frozen in the hosted Plans. "
                    "The grid takes no change of it: leave it as it is, or host Plans that train it"
                )
        return [self.params[index] for index in self.changing]

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
            updated_model_params: the trained parameters, all of them.

        Returns:
            A State's bytes: original − trained, of the tensors that `changing` names.

        Raises:
            ModelMismatchError: number or shapes differ, or a frozen tensor was changed.
        """
        diff = self.diff(updated_model_params)
        return State.of(map(from_torch, diff.changes()), diff.changing).serialize()

    async def create_serialized_diff_from_model(self, model: "SyftModel") -> bytes:
        """Serialized difference between this model and a trained one, as `Job.report` takes it.

        Args:
            model: the trained model.

        Returns:
            A State's bytes: original − trained, of the tensors that `changing` names.

        Raises:
            ModelMismatchError: number or shapes differ, or a frozen tensor was changed.
        """
        return await self.create_serialized_diff(model.params)


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
