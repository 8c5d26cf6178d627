"""Whether a Plan's variants compute the same: each is run on the same inputs and compared with the op list.

The op list runs in the reference interpreter, TorchScript in this PyTorch, and tfjs in an interpreter of its
vocabulary, which tests hold against tfjs itself.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanError, VariantError
from fedplan.plan import torchscript
from fedplan.plan.interpreter import describe, interpret
from fedplan.plan.ir import Node
from fedplan.plan.plan import Plan
from fedplan.plan.samples import samples
from fedplan.plan.tfjs import interpreter as tfjs

TOLERANCE = 1e-4
"""The greatest error with which a variant still counts as the same."""

_ROWS = (3, 5)
"""Batch sizes that are tried."""


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
) -> list[Conformance]:
    """Runs every variant that a Plan holds, and compares it with the op list.

    Args:
        plan: the Plan.
        model: the parameters of the model that it trains; random ones by default.
        inputs: its arguments; by default seeded random ones, at two batch sizes.

    Returns:
        One result a variant, in the order of `Variants.names`.

    Raises:
        VariantError: a variant fails or differs by more than 1e-4; names the first operation that differs.
        PlanFormatError: the Plan does not say what inputs it takes, and none were given.
        PlanExecutionError: the op list itself fails.
    """
    if not plan.variants.names():
        return []
    tries = [list(inputs)] if inputs is not None else [_samples(plan, rows, model) for rows in _ROWS]
    return [_compare(plan, variant, tries) for variant in plan.variants.names()]


def _samples(plan: Plan, rows: int, model: Sequence[torch.Tensor] | None) -> list[torch.Tensor]:
    return samples(plan.graph, plan.inputs, rows, model)


def _compare(plan: Plan, variant: str, tries: Sequence[Sequence[torch.Tensor]]) -> Conformance:
    worst = [0.0] * len(plan.outputs)
    for arguments in tries:
        expected = interpret(plan.graph, arguments)
        try:
            made = _RUN[variant](plan, arguments)
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
            raise VariantError(_explain(plan, variant, arguments, errors))
    return Conformance(variant, tuple(worst))


def difference(expected: torch.Tensor, made: torch.Tensor) -> float:
    """The error of an output, as `Conformance` has it; infinite when shapes differ."""
    if expected.shape != made.shape:
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


def _explain(plan: Plan, variant: str, arguments: Sequence[torch.Tensor], errors: Sequence[float]) -> str:
    """Which output differs, and which operation is the first that does."""
    index = max(range(len(errors)), key=errors.__getitem__)
    message = (
        f"the {variant} variant of the Plan '{plan.name}' differs from its op list: "
        f"the output '{plan.outputs[index].name}' by {errors[index]:.3g}, where {TOLERANCE:g} is allowed"
    )
    first = _first_difference(plan, _VALUES[variant](plan, arguments), arguments)
    return message if first is None else f"{message}. The first operation that differs is {describe(first)}"


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


def _tfjs(plan: Plan, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    assert plan.variants.tfjs is not None
    return tfjs.execute(plan.variants.tfjs, arguments)


def _torchscript(plan: Plan, arguments: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    return torchscript.run(plan.variants.torchscript, arguments)


def _values_of_tfjs(plan: Plan, arguments: Sequence[torch.Tensor]) -> Mapping[Any, Any]:
    assert plan.variants.tfjs is not None
    return tfjs.run(plan.variants.tfjs, arguments)


def _values_of_torchscript(plan: Plan, arguments: Sequence[torch.Tensor]) -> Mapping[Any, Any]:
    return torchscript.values(plan.variants.torchscript, arguments)


_RUN: Mapping[str, Callable[[Plan, Sequence[torch.Tensor]], list[torch.Tensor]]] = {
    "torchscript": _torchscript,
    "tfjs": _tfjs,
}
_VALUES: Mapping[str, Callable[[Plan, Sequence[torch.Tensor]], Mapping[Any, Any]]] = {
    "torchscript": _values_of_torchscript,
    "tfjs": _values_of_tfjs,
}
