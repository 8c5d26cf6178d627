"""`with_variants`: a Plan for every kind of client."""

import dataclasses
import logging
from collections.abc import Collection, Sequence
from typing import Any

import torch

from fedplan.errors import PlanError, PlanFormatError, TranslationError
from fedplan.plan.plan import Plan
from fedplan.plan.signature import Role
from fedplan.plan.spec import PlanInputSpec
from fedplan.plan.variants.conformance import check_variants
from fedplan.plan.variants.forms import FORMS
from fedplan.plan.variants.variants import Variants

logger = logging.getLogger(__name__)


def with_variants(
    plan: Plan,
    model: Sequence[torch.Tensor] | None = None,
    variants: Collection[str] | None = None,
    example: Sequence[torch.Tensor] | None = None,
) -> Plan:
    """The Plan with its op list translated for other clients, and each translation checked.

    Variants that the Plan holds already (one that PySyft made) are kept. All are run on the same seeded
    inputs as the op list and compared; the greatest error of each then travels with the Plan. What does not
    say which inputs it takes, as PySyft's Plans do not, cannot be compared.

    Args:
        plan: the Plan.
        model: the parameters of the model that it trains, to try it with; random ones by default.
        variants: exactly those that it shall have, of ``torchscript`` (phones) and ``tfjs`` (browsers). By
            default all that it can have; why another cannot be had is logged and kept with the Plan.
        example: the batch to try it with first, one tensor for each input that `PlanInput.is_data`; by
            default the one that it was traced with, or random numbers.

    Raises:
        TranslationError: an operation cannot be said in a variant that was asked for; names the operation,
            the line in the author's code, and what to do instead.
        VariantError: a variant that the Plan came with, or that was asked for, computes something else than
            the op list.
        PlanFormatError: a variant that was asked for cannot be made, since the Plan does not say the shapes
            of its inputs.
    """
    wanted = FORMS if variants is None else variants
    whole = dataclasses.replace(plan, variants=_only(plan.variants, wanted))
    whole = _checked(whole, model, example, whole.variants.names())
    for name in wanted:
        if name in plan.variants.names():
            continue
        try:
            whole = _checked(make_variant(whole, name), model, example, [name])
        except PlanError as reason:
            if variants is not None:
                raise
            logger.warning("the Plan '%s' is hosted without its %s variant: %s", plan.name, name, reason)
            missing = {**whole.variants.missing, name: str(reason)}
            whole = dataclasses.replace(whole, variants=dataclasses.replace(whole.variants, missing=missing))
    return whole


_PYTHON_ONLY = {
    PlanInputSpec.TYPE_RECEIVED_PARAM: "Only Python workers keep the model as they received it.",
    PlanInputSpec.TYPE_CYCLE: "Only Python workers are told the number of the cycle.",
    PlanInputSpec.TYPE_MASK: "It is DP-SGD's, and only Python workers draw Poisson batches and its noise.",
    PlanInputSpec.TYPE_STEP: "Only Python workers count the steps of a cycle.",
}
"""Inputs that other clients cannot fill, and why."""

_PRIVATE = "It is private, and only Python workers keep tensors to themselves: others would report it."


def make_variant(plan: Plan, variant: str) -> Plan:
    """The Plan with its op list translated into one variant, unchecked.

    Raises:
        TranslationError: an operation cannot be said in it.
        UnsupportedOpError: an operation's parts cannot be said in it.
        PlanFormatError: there is no such variant, or the Plan does not say the shapes of its inputs, or asks
            for random numbers of a distribution that does not exist.
    """
    if variant not in FORMS:
        raise PlanFormatError(f"a Plan has no variant '{variant}'; there are {', '.join(FORMS)}")
    for item in plan.inputs:
        if item.spec is not None and item.spec.type in _PYTHON_ONLY:
            why = _PYTHON_ONLY[item.spec.type]
            raise TranslationError(item.name, variant, source=None, why=why, kind="input")
        if item.role is Role.PRIVATE:
            raise TranslationError(item.name, variant, source=None, why=_PRIVATE, kind="input")
    made: dict[str, Any] = {variant: FORMS[variant].make(plan)}
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, **made))


def _only(held: Variants, wanted: Collection[str]) -> Variants:
    """Those of the variants that are wanted."""
    return Variants(
        held.torchscript if "torchscript" in wanted else b"", held.tfjs if "tfjs" in wanted else None
    )


def _checked(
    plan: Plan,
    model: Sequence[torch.Tensor] | None,
    example: Sequence[torch.Tensor] | None,
    names: Collection[str],
) -> Plan:
    """The Plan with the errors of these variants; unchecked when it does not say what inputs it takes."""
    if any(item.shape is None or item.dtype is None for item in plan.inputs):
        return plan
    results = check_variants(plan, model, variants=names, example=example)
    errors = {result.variant: result.greatest for result in results}
    errors = {**plan.variants.errors, **errors}
    return dataclasses.replace(plan, variants=dataclasses.replace(plan.variants, errors=errors))
