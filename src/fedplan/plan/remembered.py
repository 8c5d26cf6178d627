"""What workers remember of a model from cycle to cycle, by the wrapper that it has, as its Plans show it."""

import enum
from collections.abc import Iterable

from fedplan.plan.plan import Plan
from fedplan.plan.signature import Role
from fedplan.plan.spec import PlanInputSpec

WRAPPED = "module"
"""Under this name the wrapper holds the module that is trained."""

OWN = "own"
"""Under this name it holds what each worker keeps for itself."""


class Remembered(enum.StrEnum):
    """What workers remember, by the wrapper's name."""

    CONTROL_VARIATES = "ControlVariates"
    GRADIENTS = "DynamicRegularizer"


def remembered_by(plans: Iterable[Plan]) -> Remembered | None:
    """What the workers of a model remember; None when it has neither of these wrappers.

    Args:
        plans: all that workers of the model run.
    """
    found = {_remembered(plan) for plan in plans} - {None}
    return next((kind for kind in Remembered if kind in found), None)


def _remembered(plan: Plan) -> Remembered | None:
    tensors = [item for item in plan.inputs if item.spec and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM]
    if any(item.role is Role.CONTROL for item in tensors):  # nothing else gives a tensor this role
        return Remembered.CONTROL_VARIATES
    own = [item for item in tensors if item.name.removeprefix(f"{OWN}.").isdecimal()]
    all_named = all(item in own or item.name.startswith(f"{WRAPPED}.") for item in tensors)
    if own and all_named and all(item.role is Role.PRIVATE for item in own):
        return Remembered.GRADIENTS
    return None
