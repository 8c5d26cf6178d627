"""What of a worker's machine a Plan's results would leave, if they are reported."""

import dataclasses
import math

from fedplan.plan.ops import DTYPES
from fedplan.plan.plan import Plan
from fedplan.plan.roles import withheld_tensors
from fedplan.plan.signature import PlanInput, Role
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Leaving:
    """What a report on a run of a Plan tells the grid, and what stays with the worker.

    Beside this, a grid of fedplan is told how many samples and batches a training took. Of a Plan that does
    DP-SGD a worker tells no loss and no metrics, since they have no noise.

    Attributes:
        parameters: names of the model's tensors whose change is reported. Empty for a Plan that only
            measures.
        parameter_bytes: the bytes of that change in the tensors' own dtypes; None when the Plan does not say
            their shapes.
        loss: whether the mean of the loss is told.
        metrics: names of the metrics whose means are told.
        unknown: outputs of which the Plan does not say what they stand for, as Plans made by PySyft do not:
            the worker's `outputs` decide, and any of them may be reported.
        private: names of the model's tensors that the worker keeps for itself.
        optimizer_tensors: how many tensors of the optimizer's state stay with the worker.
    """

    parameters: tuple[str, ...]
    parameter_bytes: int | None
    loss: bool
    metrics: tuple[str, ...]
    unknown: tuple[str, ...]
    private: tuple[str, ...]
    optimizer_tensors: int

    @property
    def kinds(self) -> tuple[str, ...]:
        """In a word each, what it may tell: of ``loss``, ``metrics`` and ``parameters``."""
        told = {"loss": self.loss, "metrics": bool(self.metrics), "parameters": bool(self.parameters)}
        return tuple(kind for kind, does in told.items() if does or self.unknown)


def leaving(plan: Plan) -> Leaving:
    """What would leave the machine of a worker that runs a Plan and reports.

    A tensor that the Plan calls frozen counts as reported unless it comes back as it went in: the role is
    only what the Plan's author says.
    """
    withheld = withheld_tensors(plan)
    returned = [item.spec for item in plan.outputs if item.spec is not None]
    told = returned if plan.dp is None else []
    kept = {
        item.spec.index or 0: item
        for item in plan.inputs
        if item.spec is not None and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM
    }
    changed = [spec.index or 0 for spec in returned if spec.type == PlanOutputSpec.TYPE_MODEL_PARAM]
    reported = [index for index in changed if index not in withheld]
    return Leaving(
        parameters=tuple(kept[i].name if i in kept else f"tensor {i}" for i in reported),
        parameter_bytes=_bytes([kept.get(index) for index in reported]),
        loss=any(spec.type == PlanOutputSpec.TYPE_LOSS for spec in told),
        metrics=tuple(spec.label for spec in told if spec.type == PlanOutputSpec.TYPE_METRIC),
        unknown=tuple(item.name for item in plan.outputs if item.spec is None),
        private=tuple(item.name for item in kept.values() if item.role is Role.PRIVATE),
        optimizer_tensors=len(
            {spec.index for spec in returned if spec.type == PlanOutputSpec.TYPE_OPTIMIZER_STATE}
        ),
    )


def _bytes(tensors: list[PlanInput | None]) -> int | None:
    """The size of these tensors; None when it is not known."""
    total = 0
    for item in tensors:
        if item is None or item.shape is None or item.dtype is None:
            return None
        extents = [extent for extent in item.shape if extent is not None]
        if len(extents) < len(item.shape):
            return None
        total += math.prod(extents) * DTYPES[item.dtype].itemsize
    return total
