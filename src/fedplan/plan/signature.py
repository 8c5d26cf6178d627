"""What goes into a Plan and what comes out of it."""

import dataclasses
from collections.abc import Sequence

from fedplan.errors import PlanInputError
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class PlanInput:
    """One input of a Plan.

    Attributes:
        name: for messages and listings.
        shape: extent of each dimension, None where any size will do; None when the Plan does not say.
        dtype: name of the dtype, such as ``float32``; None when the Plan does not say.
        spec: what the input stands for; None when the Plan does not say.
    """

    name: str
    shape: tuple[int | None, ...] | None = None
    dtype: str | None = None
    spec: PlanInputSpec | None = None

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
