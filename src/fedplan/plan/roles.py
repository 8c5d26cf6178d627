"""Which tensors of a model its Plans change, by the roles that the Plans say."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from fedplan.errors import PlanInputError
from fedplan.plan.plan import Plan
from fedplan.plan.signature import Role
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.wire.state import Places

_UNREPORTED = (Role.FROZEN, Role.PRIVATE)


def changing_tensors(plans: Iterable[Plan], tensors: int) -> Places:
    """The tensors of a model that reports can change: all that are not frozen or private in each Plan.

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
        returned = _returned(plan)
        if not returned:
            continue
        if any(role is None for _, role in _roles(plan)):
            return None
        changing |= set(returned) - _unreported(plan)
    return tuple(sorted(changing)) if 0 < len(changing) < tensors else None


def tensor_roles(plans: Iterable[Plan], tensors: int) -> tuple[Role, ...]:
    """What the training does with each tensor of a model, by the first Plan that returns it and says so.

    A tensor of which no Plan says anything counts as trained.

    Args:
        plans: those that workers run.
        tensors: how many tensors the model has.
    """
    found: dict[int, Role] = {}
    for plan in plans:
        returned = set(_returned(plan))
        for index, role in _roles(plan):
            if role is not None and index in returned:
                found.setdefault(index, role)
    return tuple(found.get(index, Role.TRAINED) for index in range(tensors))


def averaged_tensors(plans: Iterable[Plan], tensors: int) -> tuple[int, ...]:
    """The running statistics of a model, by their places in ascending order.

    Args:
        plans: those that workers run.
        tensors: how many tensors the model has.
    """
    roles = tensor_roles(plans, tensors)
    return tuple(place for place, role in enumerate(roles) if role is Role.AVERAGED)


def private_tensors(plans: Iterable[Plan]) -> tuple[int, ...]:
    """The tensors of a model that each worker keeps for itself, by their places in ascending order."""
    return tuple(sorted({index for plan in plans for index, role in _roles(plan) if role is Role.PRIVATE}))


def check_private(plans: Mapping[str, Plan]) -> None:
    """Checks that what one Plan says to be private is left out of every report.

    Args:
        plans: all that workers of a model run, by name.

    Raises:
        PlanInputError: another Plan would report it, a client that knows nothing of roles would, or nothing
            is left to report.
    """
    owners = {index: name for name, plan in plans.items() for index in private_tensors([plan])}
    if not owners:
        return
    for name, plan in plans.items():
        if private_tensors([plan]) and plan.variants.names():
            raise PlanInputError(
                f"the Plan '{name}' has private tensors, and a variant ({', '.join(plan.variants.names())}) "
                "for clients that would report them: leave the variant out"
            )
        if plan.input_specs is None or plan.output_specs is None:
            raise PlanInputError(
                f"the Plan '{name}' does not say what its inputs and outputs stand for, and another has "
                "private tensors, which this one might report: trace it with `inputs` and `outputs`"
            )
        for index in _returned(plan):
            role = dict(_roles(plan)).get(index)
            if index in owners and role not in _UNREPORTED:
                raise PlanInputError(
                    f"tensor {index} of the model is private in the Plan '{owners[index]}', and "
                    f"{role or 'reported'} in the Plan '{name}': trace both with the same `private`"
                )
    if not any(set(_returned(plan)) - _unreported(plan) for plan in plans.values()):
        raise PlanInputError(
            "the Plans change private tensors alone, so workers would have nothing to report"
        )


def check_evaluation(plans: Mapping[str, Plan], name: str) -> None:
    """Checks that the evaluation Plan measures the model, and that there is another one to train it.

    Args:
        plans: all that workers of a model run, by name.
        name: of the evaluation Plan, if there is one.

    Raises:
        PlanInputError: it says nothing of its outputs, changes the model, or measures nothing; or another
            Plan does DP-SGD, whose ε would not hold for what is measured.
    """
    plan = plans.get(name)
    if plan is None:
        return
    private = [other for other, trains in plans.items() if trains.dp is not None]
    if private:
        raise PlanInputError(
            f"the Plan '{private[0]}' does DP-SGD, and the Plan '{name}' would tell what it measures on the "
            "same data without noise: leave it out, and measure checkpoints on data of your own"
        )
    if len(plans) == 1:
        raise PlanInputError(f"the Plan '{name}' measures the model, and there is none that trains it")
    if plan.input_specs is None or plan.output_specs is None:
        raise PlanInputError(
            f"the Plan '{name}' does not say what its inputs and outputs stand for: make it with "
            "`evaluation_plan`, or trace it with `inputs` and `outputs`"
        )
    if _returned(plan):
        raise PlanInputError(f"the Plan '{name}' returns tensors of the model, and may only measure it")
    kinds = {spec.type for spec in plan.output_specs}
    if not kinds & {PlanOutputSpec.TYPE_LOSS, PlanOutputSpec.TYPE_METRIC}:
        raise PlanInputError(f"the Plan '{name}' returns no loss and no metric, so it measures nothing")


def withheld_tensors(plan: Plan) -> set[int]:
    """The tensors of a model of which a report on a Plan tells nothing, whatever grid asks for it.

    They are the private ones, which each worker leaves out itself, and frozen ones that come back as they
    went in. A role alone is no proof, for a worker reports what a Plan returns, unless its grid says what
    changes.
    """
    withheld = set(private_tensors([plan]))
    if plan.input_specs is None:  # a worker then decides what the inputs stand for, and ignores their specs
        return withheld
    returned: dict[int, set[int]] = {}
    for index, number in _numbered(plan):
        returned.setdefault(index, set()).add(number)
    frozen: dict[int, set[int]] = {}
    for number, item in zip(plan.graph.inputs, plan.inputs, strict=True):
        if (place := _place(item.spec)) is not None and item.role is Role.FROZEN:
            frozen.setdefault(place, set()).add(number)
    given = Counter(index for index, _ in _roles(plan))
    withheld.update(
        index
        for index, numbers in frozen.items()
        if given[index] == 1 and returned.get(index, numbers) == numbers
    )
    return withheld


def check_roles(plan: Plan) -> None:
    """Checks that tensors which the Plan says to be frozen come back as they went in, or not at all.

    Raises:
        PlanInputError: one is changed, or goes in at two places, or two outputs stand for the same tensor of
            the model.
    """
    roles = list(_roles(plan))
    said_frozen = {index for index, role in roles if role is Role.FROZEN}
    _check_once(plan, "inputs", [index for index, _ in roles if index in said_frozen])
    _check_once(plan, "outputs", _returned(plan))
    frozen = {
        place: (number, item.name)
        for number, item in zip(plan.graph.inputs, plan.inputs, strict=True)
        if item.role is Role.FROZEN and (place := _place(item.spec)) is not None
    }
    for index, number in _numbered(plan):
        before, name = frozen.get(index, (number, ""))
        if number != before:
            raise PlanInputError(
                f"the Plan '{plan.name}' says that tensor {index} of the model ('{name}') is "
                "frozen, and changes it: trace the Plan again, or give the tensor its true role"
            )


def _check_once(plan: Plan, what: str, indices: Sequence[int]) -> None:
    for index, count in Counter(indices).items():
        if count > 1:
            raise PlanInputError(
                f"the Plan '{plan.name}' has {count} {what} that stand for tensor {index} of the model, so "
                "nobody can tell what becomes of it: give each the index of its own tensor"
            )


def _place(spec: PlanInputSpec | PlanOutputSpec | None) -> int | None:
    """Which tensor of the model a spec stands for; None for any other."""
    kinds = (PlanInputSpec.TYPE_MODEL_PARAM, PlanOutputSpec.TYPE_MODEL_PARAM)
    return (spec.index or 0) if spec is not None and spec.type in kinds else None


def _numbered(plan: Plan) -> list[tuple[int, int]]:
    """Of each output that is a tensor of the model, its index, and the number of the value."""
    pairs = zip(plan.graph.outputs, plan.outputs, strict=True)
    places = [(_place(output.spec), number) for number, output in pairs]
    return [(index, number) for index, number in places if index is not None]


def _roles(plan: Plan) -> list[tuple[int, Role | None]]:
    """The index and the role of each input that is a tensor of the model."""
    places = [(_place(item.spec), item.role) for item in plan.inputs]
    return [(index, role) for index, role in places if index is not None]


def _returned(plan: Plan) -> list[int]:
    """The tensors of the model that a Plan returns."""
    return [index for index, _ in _numbered(plan)]


def _unreported(plan: Plan) -> set[int]:
    return {index for index, role in _roles(plan) if role in _UNREPORTED}
