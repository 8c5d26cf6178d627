"""Which tensors of a model its Plans change, by the roles that the Plans say."""

from collections.abc import Iterable

from fedplan.errors import PlanInputError
from fedplan.plan.plan import Plan
from fedplan.plan.signature import Role
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.wire.state import Places


def changing_tensors(plans: Iterable[Plan], tensors: int) -> Places:
    """The tensors of a model that a training can change: all that are not frozen in each Plan.

    A Plan that returns no tensor of the model, such as one that evaluates, says nothing of it.

    Args:
        plans: those that workers run.
        tensors: how many tensors the model has.

    Returns:
        Their places, in ascending order; None when all may change: nothing is frozen, or a Plan does not say
        what roles the model's tensors have, as Plans that were made elsewhere do not.
    """
    changing: set[int] = set()
    for plan in plans:
        if plan.input_specs is None or plan.output_specs is None:
            return None
        returned = {spec.index for spec in plan.output_specs if spec.type == PlanOutputSpec.TYPE_MODEL_PARAM}
        if not returned:
            continue
        roles = _roles(plan)
        if any(role is None for _, role in roles):
            return None
        frozen = {index for index, role in roles if role is Role.FROZEN}
        changing |= {index for index in returned - frozen if index is not None}
    return tuple(sorted(changing)) if 0 < len(changing) < tensors else None


def check_roles(plan: Plan) -> None:
    """Checks that tensors which the Plan says to be frozen come back as they went in, or not at all.

    Raises:
        PlanInputError: one is changed.
    """
    frozen = {
        item.spec.index: (number, item.name)
        for number, item in zip(plan.graph.inputs, plan.inputs, strict=True)
        if item.role is Role.FROZEN and item.spec is not None
    }
    for number, output in zip(plan.graph.outputs, plan.outputs, strict=True):
        if output.spec is None or output.spec.type != PlanOutputSpec.TYPE_MODEL_PARAM:
            continue
        before, name = frozen.get(output.spec.index, (number, ""))
        if number != before:
            raise PlanInputError(
                f"the Plan '{plan.name}' says that tensor {output.spec.index} of the model ('{name}') is "
                "frozen, and changes it: trace the Plan again, or give the tensor its true role"
            )


def _roles(plan: Plan) -> list[tuple[int | None, Role | None]]:
    """The index and the role of each input that is a tensor of the model."""
    return [
        (item.spec.index, item.role)
        for item in plan.inputs
        if item.spec is not None and item.spec.type == PlanInputSpec.TYPE_MODEL_PARAM
    ]
