"""`with_variants`: a Plan for every kind of client."""

import dataclasses
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanFormatError, TranslationError
from fedplan.plan import torchscript
from fedplan.plan.conformance import check_variants
from fedplan.plan.plan import Plan
from fedplan.plan.tfjs.translate import translate

logger = logging.getLogger(__name__)


def with_variants(
    plan: Plan,
    model: Sequence[torch.Tensor] | None = None,
    variants: Collection[str] | None = None,
) -> Plan:
    """The Plan with its op list translated for other clients, and each translation checked.

    Variants that the Plan holds already (one that PySyft made) are kept. All are run on the same seeded
    inputs as the op list and compared; the greatest error of each then travels with the Plan.

    Args:
        plan: the Plan.
        model: the parameters of the model that it trains, to try it with; random ones by default.
        variants: which it must have, of ``torchscript`` (phones) and ``tfjs`` (browsers). By default all that
            it can have; why another cannot be had is logged.

    Raises:
        TranslationError: an operation cannot be said in a variant that was asked for; names the operation,
            the line in the author's code, and what to do instead.
        VariantError: a variant computes something else than the op list.
        PlanFormatError: a variant that was asked for cannot be made, since the Plan does not say the shapes
            of its inputs.
    """
    whole = plan
    for name in MAKERS if variants is None else variants:
        if name in plan.variants.names():
            continue
        try:
            whole = make_variant(whole, name)
        except (TranslationError, PlanFormatError) as reason:
            if variants is not None:
                raise
            logger.warning("the Plan '%s' is hosted without its %s variant: %s", plan.name, name, reason)
    return _checked(whole, model)


def make_variant(plan: Plan, variant: str) -> Plan:
    """The Plan with its op list translated into one variant, unchecked.

    Raises:
        TranslationError: an operation cannot be said in it.
        PlanFormatError: there is no such variant, or the Plan does not say the shapes of its inputs.
    """
    if variant not in MAKERS:
        raise PlanFormatError(f"a Plan has no variant '{variant}'; there are {', '.join(MAKERS)}")
    made: dict[str, Any] = {variant: MAKERS[variant](plan)}
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, **made))


def _checked(plan: Plan, model: Sequence[torch.Tensor] | None) -> Plan:
    """The Plan with the errors of its variants; unchecked when it does not say what inputs it takes."""
    if any(item.shape is None or item.dtype is None for item in plan.inputs):
        return plan
    errors = {result.variant: result.greatest for result in check_variants(plan, model)}
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, errors=errors))


MAKERS: Mapping[str, Callable[[Plan], Any]] = {
    "torchscript": torchscript.write,
    "tfjs": lambda plan: translate(plan.graph, plan.inputs),
}
"""How each variant is made, by its name in `Variants`."""
