"""What goes into a Plan and what comes out of it."""

import dataclasses
import enum
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fedplan.errors import PlanFormatError, PlanInputError
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.plan.spec import BATCH, PlanInputSpec, PlanOutputSpec

_DATA = BATCH | {PlanInputSpec.TYPE_VALUE}


class Role(enum.StrEnum):
    """What a training does with a tensor of the model."""

    TRAINED = "trained"
    """The optimizer changes it."""
    AVERAGED = "averaged"
    """The forward pass changes it: a running statistic."""
    COUNTER = "counter"
    """The forward pass changes it, and it holds whole numbers."""
    CONTROL = "control"
    """The grid changes it from what workers report: a control variate."""
    FROZEN = "frozen"
    """It stays as it is."""
    PRIVATE = "private"
    """Each worker keeps its own from cycle to cycle, and reports nothing of it."""


@dataclasses.dataclass(frozen=True, slots=True)
class PlanInput:
    """One input of a Plan.

    Attributes:
        name: for messages and listings.
        shape: extent of each dimension, None where any size will do; None when the Plan does not say.
        dtype: name of the dtype, such as ``float32``; None when the Plan does not say.
        spec: what the input stands for; None when the Plan does not say.
        role: of a tensor of the model, what the training does with it; None when the Plan does not say.
        made_with: of a Plan that PySyft made, the shape of what it was made with, which is no condition.
        argument: of such a Plan, where the input stands in the arguments of the traced function: (2,) is the
            third one, (4, 0) the first element of the list that is the fifth.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
    spec: PlanInputSpec | None = None
    role: Role | None = None
    made_with: tuple[int, ...] | None = None
    argument: tuple[int, ...] | None = None

    def __str__(self) -> str:
        shape = "any shape" if self.shape is None else f"({', '.join(map(str, _extents(self.shape)))})"
        words = (self.kind, self.dtype or "any dtype", shape)
        return f"{self.name}: {' '.join(word for word in words if word)}"

    @property
    def kind(self) -> str | None:
        """Of a random input its distribution, of a tensor of the model its role; None of others."""
        return self.spec.name if self.spec is not None and self.is_random else self.role

    @property
    def any_rows(self) -> bool:
        """Whether its first dimension may have any size."""
        return self.shape is not None and self.shape[:1] == (None,)

    @property
    def is_random(self) -> bool:
        """Whether it is filled with random numbers."""
        return self.spec is not None and self.spec.type == PlanInputSpec.TYPE_RANDOM

    @property
    def is_data(self) -> bool:
        """Whether it takes data, and not a model, its training or a configuration, as far as is known."""
        return self.spec is None or self.spec.type in _DATA

    def with_rows(self, rows: int) -> tuple[tuple[int, ...], str]:
        """Shape and dtype of an argument for so many rows.

        Args:
            rows: extent of the dimensions that may have any size.

        Raises:
            PlanFormatError: the Plan does not say them.
        """
        if self.shape is None or self.dtype is None:
            raise PlanFormatError(
                f"the Plan does not say the shape and dtype of its input '{self.name}'; it cannot be "
                "translated or checked without data, and to try it, give the inputs to try"
            )
        return tuple(rows if extent is None else extent for extent in self.shape), self.dtype

    def tensor(self, value: Any) -> torch.Tensor:
        """An argument as a tensor that fits the input.

        Args:
            value: a torch tensor, a NumPy array, or a number for an input of one element.

        Raises:
            PlanInputError: it does not fit; a number with a fraction does not fit an input of integers.
        """
        if isinstance(value, torch.Tensor):
            tensor = value.detach() if value.requires_grad else value
        elif isinstance(value, np.ndarray | bool | int | float | np.generic):
            try:
                tensor = _array(value) if isinstance(value, np.ndarray) else self._number(value)
            except (RuntimeError, TypeError, ValueError) as error:
                raise PlanInputError(f"the argument '{self.name}' cannot become a tensor: {error}") from error
        else:
            raise PlanInputError(
                f"the argument '{self.name}' is a {type(value).__name__}; a tensor, array or number is needed"
            )
        self.check(tensor.shape, dtype_name(tensor.dtype))
        return tensor.contiguous()  # the check supposes that, and some kernels trust it

    def _number(self, value: float | np.generic) -> torch.Tensor:
        """A number as the one element of the input."""
        shape = () if self.shape is None else tuple(1 if e is None else e for e in self.shape)
        dtype = DTYPES[self.dtype] if self.dtype else torch.tensor(value).dtype
        tensor = torch.tensor(value, dtype=dtype)
        if not dtype.is_floating_point and tensor.item() != value:
            raise ValueError(f"{value} is not a {self.dtype}")
        return tensor.reshape(shape) if shape.count(1) == len(shape) else tensor

    def check(self, shape: Sequence[int], dtype: str) -> None:
        """Raises PlanInputError when a tensor of this shape and dtype does not fit."""
        if self.dtype is not None and dtype != self.dtype:
            raise PlanInputError(
                f"the argument '{self.name}' has the dtype {dtype}, the Plan needs {self.dtype}: "
                f"convert it with .to(torch.{self.dtype})"
            )
        if self.shape is not None and not self._fits(shape):
            needed = " × ".join("any" if extent is None else str(extent) for extent in self.shape)
            given = " × ".join(map(str, shape))
            raise PlanInputError(
                f"the argument '{self.name}' has the shape ({given}), the Plan needs ({needed})"
            )

    def _fits(self, shape: Sequence[int]) -> bool:
        wanted = self.shape or ()
        return len(shape) == len(wanted) and all(
            w is None or w == s for w, s in zip(wanted, shape, strict=True)
        )


@dataclasses.dataclass(frozen=True, slots=True)
class PlanOutput:
    """One output of a Plan.

    Attributes:
        name: for messages and listings.
        spec: what the output stands for; None when the Plan does not say.
    """

    name: str
    spec: PlanOutputSpec | None = None


def check_count(plan: str, inputs: Sequence[PlanInput], given: int, advice: str = "") -> None:
    """Checks that there are as many arguments as inputs.

    Args:
        plan: name of the Plan.
        inputs: those that arguments are given for.
        given: how many arguments there are.
        advice: what to do where there are not.

    Raises:
        PlanInputError: there are more or fewer.
    """
    if given != len(inputs):
        names = ", ".join(item.name for item in inputs)
        raise PlanInputError(
            f"the Plan '{plan}' takes {len(inputs)} arguments ({names}), not {given}{advice}"
        )


def leader(inputs: Sequence[PlanInput]) -> int | None:
    """Place of the input whose rows random inputs have: the first that takes any number, if one does."""
    return next((p for p, item in enumerate(inputs) if item.any_rows and not item.is_random), None)


def rows_of(inputs: Sequence[PlanInput], values: Sequence[Any]) -> int:
    """Samples in a batch: the rows of the leading argument, or 1 where no input takes any number.

    Args:
        inputs: of a Plan, with or without random ones.
        values: arguments for the first of them; numbers and what is no tensor have no rows.
    """
    place = leader(inputs)
    leading = None if place is None or place >= len(values) else values[place]
    shape: Sequence[int] = getattr(leading, "shape", ())
    return int(shape[0]) if len(shape) else 1


def _extents(shape: Sequence[int | None]) -> list[int | str]:
    return ["any" if extent is None else extent for extent in shape]


def _array(value: np.ndarray[Any, Any]) -> torch.Tensor:
    return torch.from_numpy(np.require(value, requirements="C"))
