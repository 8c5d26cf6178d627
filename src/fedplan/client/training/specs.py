"""Which specs a training uses: the ones the caller gives, else the Plan's own, else what can be told."""

import logging
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

from fedplan.client.training.arguments import places_of
from fedplan.client.training.naming import (
    PARAMS,
    inputs_by_name,
    inputs_by_nesting,
    outputs_by_name,
    outputs_by_place,
)
from fedplan.errors import ConfigError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec

_log = logging.getLogger("fedplan.client")

_S = TypeVar("_S", PlanInputSpec, PlanOutputSpec)

Inputs = Sequence[PlanInputSpec] | Sequence[str] | None
"""What a Plan's inputs stand for: a spec for each, or a name for each argument; None: as the Plan says it."""

Outputs = Sequence[PlanOutputSpec] | Sequence[str] | None
"""What a Plan's outputs stand for, in the same way."""


def complete_inputs(plan: Plan, given: Inputs, tensors: int | None = None) -> list[PlanInputSpec]:
    """One spec for each input of the Plan.

    Args:
        plan: the Plan.
        given: what the caller says.
        tensors: how many the model has, where that is known: a Plan whose parameters are not told one by one
            takes all of them.

    Raises:
        ConfigError: nobody says what the inputs stand for, or the number is wrong.
    """
    if given is None:
        if plan.input_specs is not None:
            return plan.input_specs
        told = inputs_by_nesting(plan)
        if told is None:
            raise _missing(plan, "inputs", "PlanInputSpec", len(plan.inputs))
        words = ", ".join(dict.fromkeys(_word(spec) for spec in told))
        _log.info("the Plan '%s' does not say what its inputs stand for: taken as %s", plan.name, words)
        return _all(plan, told, tensors)
    specs, names = _given(given, PlanInputSpec, "inputs")
    if names:
        return _all(plan, inputs_by_name(plan, names), tensors)
    drawn = [item.spec for item in plan.inputs if item.spec is not None and item.is_random]
    if len(specs) + len(drawn) == len(plan.inputs):
        specs += drawn  # nobody but the worker fills them
    if len(specs) != len(plan.inputs):
        takes = ", ".join(item.name for item in plan.inputs)
        raise ConfigError(
            f"the Plan '{plan.name}' takes {len(plan.inputs)} inputs ({takes}); there are {len(specs)} specs"
        )
    return specs


def complete_outputs(plan: Plan, given: Outputs, inputs: Sequence[PlanInputSpec]) -> list[PlanOutputSpec]:
    """Specs for the outputs of the Plan; outputs beyond the last spec are not used, as in the reference.

    Args:
        plan: the Plan.
        given: what the caller says.
        inputs: what the inputs stand for.

    Raises:
        ConfigError: nobody says what the outputs stand for, or there are more specs than outputs.
    """
    params = len(places_of(inputs, PlanInputSpec.TYPE_MODEL_PARAM))
    if given is None:
        if plan.output_specs is not None:
            return plan.output_specs
        if params == 0:
            raise _missing(plan, "outputs", "PlanOutputSpec", len(plan.outputs))
        return outputs_by_place(plan, inputs)
    specs, names = _given(given, PlanOutputSpec, "outputs")
    if names:
        return outputs_by_name(plan, names, params)
    if len(specs) > len(plan.outputs):
        raise ConfigError(
            f"the Plan '{plan.name}' returns {len(plan.outputs)} values; there are {len(specs)} specs"
        )
    return specs


def _word(spec: PlanInputSpec) -> str:
    return PARAMS if spec.type == PlanInputSpec.TYPE_MODEL_PARAM else spec.label


def _all(plan: Plan, specs: list[PlanInputSpec], tensors: int | None) -> list[PlanInputSpec]:
    """The specs, if they take all of the model.

    Raises:
        ConfigError: they do not.
    """
    params = len(places_of(specs, PlanInputSpec.TYPE_MODEL_PARAM))
    if tensors is not None and params != tensors:
        raise ConfigError(
            f"the Plan '{plan.name}' takes {params} parameters, and the model has {tensors} tensors: it is "
            "not the Plan of this model, or inputs name too few or too many arguments before 'params'"
        )
    return specs


def _given(given: Any, kind: type[_S], what: str) -> tuple[list[_S], list[str]]:
    """The specs, or else the names, that the caller gave, checked."""
    items = list(given) if isinstance(given, Iterable) and not isinstance(given, str) else [given]
    names = [item for item in items if isinstance(item, str) and item]
    specs = [item for item in items if isinstance(item, kind)]
    if isinstance(given, str) or len(items) not in (len(names), len(specs)):
        odd = next((item for item in items if not isinstance(item, kind)), given)
        raise ConfigError(
            f"{what} must be a list of {kind.__name__}, or a list of names; it holds a {type(odd).__name__}"
        )
    return specs, names


def _missing(plan: Plan, what: str, kind: str, count: int) -> ConfigError:
    names = "['data', 'target', 'batch_size', 'lr', 'params']" if what == "inputs" else "['loss', 'params']"
    return ConfigError(
        f"the Plan '{plan.name}' does not say what its {count} {what} stand for (another tool made it): pass "
        f"{what}=[{kind}(…), …], one for each, in order; or names, such as {what}={names}"
    )
