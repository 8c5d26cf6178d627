"""Which specs a training uses: the ones the caller gives, else the ones the Plan carries."""

from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec

_S = TypeVar("_S")


def complete_inputs(plan: Plan, given: Sequence[PlanInputSpec] | None) -> list[PlanInputSpec]:
    """One spec for each input of the Plan.

    Raises:
        ConfigError: nobody says what the inputs stand for, or the number is wrong.
    """
    specs = plan.input_specs if given is None else _specs(given, PlanInputSpec, "inputs")
    if specs is None:
        raise _missing(plan, "inputs", "PlanInputSpec", len(plan.inputs))
    drawn = [item.spec for item in plan.inputs if item.spec is not None and item.is_random]
    if given is not None and len(specs) + len(drawn) == len(plan.inputs):
        specs += drawn  # nobody but the worker fills them
    if len(specs) != len(plan.inputs):
        names = ", ".join(item.name for item in plan.inputs)
        raise ConfigError(
            f"the Plan '{plan.name}' takes {len(plan.inputs)} inputs ({names}); there are {len(specs)} specs"
        )
    return specs


def complete_outputs(plan: Plan, given: Sequence[PlanOutputSpec] | None) -> list[PlanOutputSpec]:
    """Specs for the outputs of the Plan; outputs beyond the last spec are not used, as in the reference.

    Raises:
        ConfigError: nobody says what the outputs stand for, or there are more specs than outputs.
    """
    specs = plan.output_specs if given is None else _specs(given, PlanOutputSpec, "outputs")
    if specs is None:
        raise _missing(plan, "outputs", "PlanOutputSpec", len(plan.outputs))
    if len(specs) > len(plan.outputs):
        raise ConfigError(
            f"the Plan '{plan.name}' returns {len(plan.outputs)} values; there are {len(specs)} specs"
        )
    return specs


def _specs(given: Any, kind: type[_S], what: str) -> list[_S]:
    """The specs that the caller gave, checked."""
    specs = list(given) if isinstance(given, Iterable) else [given]
    for spec in specs:
        if not isinstance(spec, kind):
            raise ConfigError(f"{what} must be a list of {kind.__name__}; it holds a {type(spec).__name__}")
    return specs


def _missing(plan: Plan, what: str, kind: str, count: int) -> ConfigError:
    return ConfigError(
        f"the Plan '{plan.name}' does not say what its {count} {what} stand for (another tool made it): pass "
        f"{what}=[{kind}(…), …], one for each, in order"
    )
