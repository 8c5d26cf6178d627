"""Whether a Plan's variants compute the same: each is run on the same inputs and compared with the op list.

The op list runs in the reference interpreter, TorchScript in this PyTorch, and tfjs in an interpreter of its
vocabulary, which tests hold against tfjs itself.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanError, PlanExecutionError, VariantError
from fedplan.plan.ir.graph import Node
from fedplan.plan.plan import Plan
from fedplan.plan.run.interpreter import describe, interpret
from fedplan.plan.spec import PlanInputSpec, PlanOutputSpec
from fedplan.plan.variants.forms import FORMS
from fedplan.plan.variants.samples import samples

TOLERANCE = 1e-4
"""The greatest error with which a variant still counts as the same."""

_CHANGE_TOLERANCE = 0.01
"""Of what a step does to a parameter, the share that may differ: it is small beside the parameter itself."""

_ROUNDING = 8 * torch.finfo(torch.float32).eps
"""Relative to a parameter: what may differ of its change because the parameter was rounded."""

_ROWS = (3, 5, 1)
"""Batch sizes that are tried; the last one where the op list itself runs with it."""

_CHANGED = {
    PlanOutputSpec.TYPE_MODEL_PARAM: PlanInputSpec.TYPE_MODEL_PARAM,
    PlanOutputSpec.TYPE_OPTIMIZER_STATE: PlanInputSpec.TYPE_OPTIMIZER_STATE,
}
"""Outputs that are inputs of a step, changed: what kind of output, and of which input."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conformance:
    """How near a variant comes to the op list.

    An error is the greatest absolute difference of two numbers, divided by the largest number of the output
    where that is above one.

    Attributes:
        variant: its name.
        errors: for each output of the Plan, its greatest error.
    """

    variant: str
    errors: tuple[float, ...]

    @property
    def greatest(self) -> float:
        """The greatest error of all outputs."""
        return max(self.errors, default=0.0)


def check_variants(
    plan: Plan,
    model: Sequence[torch.Tensor] | None = None,
    inputs: Sequence[torch.Tensor] | None = None,
    variants: Iterable[str] | None = None,
) -> list[Conformance]:
    """Runs the variants that a Plan holds, and compares them with the op list.

    Args:
        plan: the Plan.
        model: the parameters of the model that it trains; random ones by default.
        inputs: its arguments; by default seeded random ones, at several batch sizes.
        variants: which of those that it holds; all by default.

    Returns:
        One result a variant, in the order of `Variants.names`.

    Raises:
        VariantError: a variant fails, or differs by more than 1e-4, or changes a parameter by something else;
            names the first operation that differs.
        PlanFormatError: the Plan does not say what inputs it takes, and none were given.
        PlanExecutionError: the op list itself fails.
    """
    names = [name for name in plan.variants.names() if variants is None or name in variants]
    if not names:
        return []
    tries = [list(inputs)] if inputs is not None else _tries(plan, model)
    return [_compare(plan, variant, tries) for variant in names]


def _tries(plan: Plan, model: Sequence[torch.Tensor] | None) -> list[list[torch.Tensor]]:
    tries = [samples(plan.graph, plan.inputs, rows, model) for rows in _ROWS[:-1]]
    if any(None in (item.shape or ()) for item in plan.inputs):
        try:
            tries.append(samples(plan.graph, plan.inputs, _ROWS[-1], model))
        except PlanExecutionError:
            return tries  # a batch norm, for one, has nothing to say of a single sample
    return tries


def _compare(plan: Plan, variant: str, tries: Sequence[Sequence[torch.Tensor]]) -> Conformance:
    worst = [0.0] * len(plan.outputs)
    for arguments in tries:
        expected = interpret(plan.graph, arguments)
        try:
            made = FORMS[variant].run(plan, arguments)
        except PlanError as error:
            raise VariantError(f"the {variant} variant of the Plan '{plan.name}' fails: {error}") from error
        if len(made) != len(expected):
            raise VariantError(
                f"the {variant} variant of the Plan '{plan.name}' returns {len(made)} outputs, "
                f"the op list {len(expected)}"
            )
        errors = [difference(ours, theirs) for ours, theirs in zip(expected, made, strict=True)]
        worst = [max(pair) for pair in zip(worst, errors, strict=True)]
        if max(worst, default=0.0) > TOLERANCE:
            index = max(range(len(errors)), key=errors.__getitem__)
            _refuse(
                plan, variant, arguments, index, f"by {errors[index]:.3g}, where {TOLERANCE:g} is allowed"
            )
        for index, before in _changed(plan, arguments):
            if not _changes_alike(before, expected[index], made[index]):
                _refuse(plan, variant, arguments, index, "in what the step changes of it")
    return Conformance(variant, tuple(worst))


def difference(expected: torch.Tensor, made: torch.Tensor) -> float:
    """The error of an output, as `Conformance` has it; infinite when shapes or kinds of numbers differ."""
    if expected.shape != made.shape or _kind(expected) != _kind(made):
        return float("inf")
    ours, theirs = expected.to(torch.float64), made.to(torch.float64)
    apart = (ours - theirs).abs()
    apart = torch.where((ours == theirs) | (ours.isnan() & theirs.isnan()), 0.0, apart)
    if not apart.numel():
        return 0.0
    if bool(apart.isnan().any()):
        return float("inf")
    scale = ours[ours.isfinite()].abs().max().item() if bool(ours.isfinite().any()) else 1.0
    return float(apart.max()) / max(1.0, scale)


def _kind(tensor: torch.Tensor) -> str:
    """Clients differ in the width of numbers, not in their kind."""
    if tensor.dtype == torch.bool:
        return "truth values"
    return "fractions" if tensor.is_floating_point() else "integers"


def _changed(plan: Plan, arguments: Sequence[torch.Tensor]) -> list[tuple[int, torch.Tensor]]:
    """Places of the outputs that are inputs, changed, each with that input."""
    places = {(i.spec.type, i.spec.index): place for place, i in enumerate(plan.inputs) if i.spec is not None}
    pairs = [
        (index, places.get((_CHANGED.get(output.spec.type, ""), output.spec.index)))
        for index, output in enumerate(plan.outputs)
        if output.spec is not None
    ]
    return [(index, arguments[place]) for index, place in pairs if place is not None]


def _changes_alike(before: torch.Tensor, expected: torch.Tensor, made: torch.Tensor) -> bool:
    if before.shape != expected.shape or not expected.numel():
        return True
    start = before.to(torch.float64)
    ours, theirs = expected.to(torch.float64) - start, made.to(torch.float64) - start
    rounding = _ROUNDING * max(float(start.abs().max()), float(expected.abs().max()))
    apart = float((ours - theirs).abs().nan_to_num(0.0).max())
    return apart <= _CHANGE_TOLERANCE * float(ours.abs().nan_to_num(0.0).max()) + rounding


def _refuse(plan: Plan, variant: str, arguments: Sequence[torch.Tensor], index: int, how: str) -> None:
    """Tells which output differs, and which operation is the first that does."""
    message = (
        f"the {variant} variant of the Plan '{plan.name}' differs from its op list: "
        f"the output '{plan.outputs[index].name}' {how}"
    )
    first = _first_difference(plan, FORMS[variant].values(plan, arguments), arguments)
    if first is not None:
        message += f". The first operation that differs is {describe(first)}"
    raise VariantError(message)


def _first_difference(
    plan: Plan, values: Mapping[Any, Any], arguments: Sequence[torch.Tensor]
) -> Node | None:
    """The first operation whose result another run has with other numbers."""
    found: list[Node] = []

    def observe(node: Node, number: int, made: Any) -> None:
        theirs = values.get(number, made)
        if not found and isinstance(made, torch.Tensor) and difference(made, theirs) > TOLERANCE:
            found.append(node)

    interpret(plan.graph, arguments, observe)
    return found[0] if found else None
