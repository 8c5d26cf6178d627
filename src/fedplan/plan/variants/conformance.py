"""Whether a Plan's variants compute the same: each is run on the same inputs and compared with the op list.

The op list runs in the reference interpreter, TorchScript in this PyTorch, and tfjs in an interpreter of its
vocabulary, which tests hold against tfjs itself. Random numbers are the same for all: TorchScript draws its
own under a seed, and the two others are given what it draws.

A variant may round differently, and no more. What rounding does is measured on the op list itself
(`fedplan.plan.variants.rounding`).
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.errors import PlanError, PlanInputError, VariantError
from fedplan.plan.ir.graph import Node
from fedplan.plan.plan import Plan
from fedplan.plan.run.interpreter import describe, interpret
from fedplan.plan.signature import rows_of
from fedplan.plan.variants.forms import FORMS
from fedplan.plan.variants.random_inputs import draw
from fedplan.plan.variants.rounding import FLOAT32, Point, distance, spacing
from fedplan.plan.variants.samples import Samples, finite

TOLERANCE = 1e-4
"""The greatest error with which a variant still counts as the same, where all is computed in float32."""

_CHANGE_TOLERANCE = 0.01
"""Of what a step does to a parameter, the share that may differ: it is small beside the parameter itself."""

_OF_COARSE_NUMBERS = (4, 16)
"""In steps of the coarsest dtype on the way, what may differ of a result, and of a change."""

_ROUNDING = 8
"""In steps of its dtype, what may differ of a parameter's change because the parameter was rounded."""

_NOTHING = 1e-6
"""Of the largest change of any parameter, what may be made of a parameter that the op list leaves alone."""

_ASIDE = 1e-3
"""How far inputs are moved to see whether a difference was that of a corner."""

_MORE = 2
"""How many samples more a second batch has, of those that are tried besides a single sample."""


@dataclasses.dataclass(frozen=True, slots=True)
class Conformance:
    """How near a variant comes to the op list.

    An error is the greatest absolute difference of two numbers, less what rounding does to the op list
    itself, divided by the largest number of the output where that is above one.

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
    model: Sequence[Tensor] | None = None,
    inputs: Sequence[Tensor] | None = None,
    variants: Iterable[str] | None = None,
    example: Sequence[Tensor] | None = None,
) -> list[Conformance]:
    """Runs the variants that a Plan holds, and compares them with the op list.

    Args:
        plan: the Plan.
        model: the parameters of the model that it trains; random ones by default.
        inputs: all its arguments but those of random inputs; by default seeded random ones, at several batch
            sizes.
        variants: which of those that it holds; all by default.
        example: the author's own data, tried before random ones: one tensor for each input that
            `PlanInput.is_data`, in order. By default `Plan.example`. Random integers are then drawn from its
            range.

    Returns:
        One result a variant, in the order of `Variants.names`.

    Raises:
        VariantError: a variant fails, or differs by more than 1e-4 (more where the Plan computes in bfloat16
            or float16) and more than rounding explains, or changes a parameter by something else; names the
            first operation that differs.
        PlanFormatError: the Plan does not say what inputs it takes, and none were given; or the example does
            not fit them.
        PlanExecutionError: the op list itself fails.
    """
    names = [name for name in plan.variants.names() if variants is None or name in variants]
    if not names:
        return []
    if inputs is not None:
        points = [_point(plan, inputs)]
    else:
        points = _points(plan, model, plan.example if example is None else example)
    return [_compare(plan, variant, points) for variant in names]


def _points(plan: Plan, model: Sequence[Tensor] | None, example: Sequence[Tensor] | None) -> list[Point]:
    """The author's example, and random arguments at several batch sizes, where the op list is defined."""
    source = Samples(plan.graph, plan.inputs, model, example)
    sizes = (source.rows, source.rows + _MORE)
    made = [Point(plan, source.draw(rows, seed), seed) for seed, rows in enumerate(sizes)]
    alone = source.draw_alone() if any(None in (item.shape or ()) for item in plan.inputs) else None
    first, last = ([] if found is None else [Point(plan, found)] for found in (source.example(), alone))
    points = [*first, *made, *last]
    defined = [point for point in points if point.defined] or points
    return [point for point in defined if finite(point.expected)] or defined


def _point(plan: Plan, inputs: Sequence[Tensor]) -> Point:
    """The arguments that somebody gave, and those of the random inputs.

    Raises:
        PlanInputError: there are more or fewer than the Plan takes.
    """
    wanted = [item for item in plan.inputs if not item.is_random]
    if len(inputs) != len(wanted):
        raise PlanInputError(
            f"the Plan '{plan.name}' takes {len(wanted)} arguments besides random ones, not {len(inputs)}"
        )
    drawn, rest = draw(plan.graph, plan.inputs, rows_of(wanted, inputs), seed=0), iter(inputs)
    return Point(plan, [drawn[p] if p in drawn else next(rest) for p in range(len(plan.inputs))])


def _compare(plan: Plan, variant: str, points: Sequence[Point]) -> Conformance:
    worst = [0.0] * len(plan.outputs)
    for point in points:
        found = _look(variant, point)
        if found.fault is not None:
            others = [_look(variant, point.beside(seed, lambda _: _ASIDE)) for seed in range(3)]
            if sum(other.fault is not None for other in others) > 1:
                _refuse(variant, point, found)
            found = next(other for other in others if other.fault is None)  # the point was a corner
        worst = [max(pair) for pair in zip(worst, found.errors, strict=True)]
    return Conformance(variant, tuple(worst))


@dataclasses.dataclass(frozen=True, slots=True)
class _Look:
    """What was found out at a point.

    Attributes:
        errors: of each output.
        fault: the output that differs too much, and how; None when none does.
    """

    errors: list[float]
    fault: tuple[int, str] | None = None


def _look(variant: str, point: Point) -> _Look:
    plan, expected = point.plan, point.expected
    try:
        made = FORMS[variant].run(plan, point.arguments, point.seed)
    except PlanError as error:
        raise VariantError(f"the {variant} variant of the Plan '{plan.name}' fails: {error}") from error
    if len(made) != len(expected):
        raise VariantError(
            f"the {variant} variant of the Plan '{plan.name}' returns {len(made)} outputs, "
            f"the op list {len(expected)}"
        )
    found = _judged(point, made, None)
    return found if found.fault is None else _judged(point, made, point.noise)


def _judged(point: Point, made: Sequence[Tensor], noise: Sequence[Tensor] | None) -> _Look:
    """How far outputs are off, more than rounding explains where that was measured."""
    expected, zeros = point.expected, [None] * len(made)
    errors = [difference(*each) for each in zip(expected, made, noise or zeros, strict=True)]
    tolerance = max(TOLERANCE, _OF_COARSE_NUMBERS[0] * point.coarsest)
    if max(errors, default=0.0) > tolerance:
        index = max(range(len(errors)), key=errors.__getitem__)
        return _Look(errors, (index, f"by {errors[index]:.3g}, where {tolerance:g} is allowed"))
    for index, before in point.changed:
        of_rounding = None if noise is None else noise[index]
        if not _changes_alike(point, before, expected[index], made[index], of_rounding):
            return _Look(errors, (index, "in what the step changes of it"))
    return _Look(errors)


def difference(expected: Tensor, made: Tensor, noise: Tensor | None = None) -> float:
    """The error of an output, as `Conformance` has it; infinite when shapes or kinds of numbers differ.

    Args:
        expected: what the op list makes.
        made: what a variant makes.
        noise: for each element, how much may differ because of rounding.
    """
    if expected.shape != made.shape or _kind(expected) != _kind(made):
        return float("inf")
    off = distance(expected, made)
    if noise is not None:
        off = torch.where(noise.isinf(), 0.0, (off - noise).clamp(min=0.0))
    if not off.numel():
        return 0.0
    if bool(off.isnan().any()):
        return float("inf")
    finite = expected[expected.isfinite()].to(torch.float64)
    return float(off.max()) / max(1.0, float(finite.abs().max()) if finite.numel() else 1.0)


def _kind(tensor: Tensor) -> str:
    """Clients differ in the width of numbers, not in their kind."""
    if tensor.dtype == torch.bool:
        return "truth values"
    return "fractions" if tensor.is_floating_point() else "integers"


def _changes_alike(
    point: Point, before: Tensor, expected: Tensor, made: Tensor, noise: Tensor | None
) -> bool:
    """Whether a parameter is changed by the same, as far as its own rounding and that on the way allow."""
    if before.shape != expected.shape or not expected.numel():
        return True
    start = before.to(torch.float64)
    change = distance(before, expected).nan_to_num(0.0).max()
    allowed = max(_CHANGE_TOLERANCE, _OF_COARSE_NUMBERS[1] * point.coarsest) * change
    allowed += (
        _ROUNDING * max(FLOAT32, spacing(before)) * max(float(start.abs().max()), float(expected.abs().max()))
    )
    if not change:
        allowed += _NOTHING * point.largest_change
    off = distance(expected, made).nan_to_num(0.0)
    return bool((off <= (allowed if noise is None else allowed + noise)).all())


def _refuse(variant: str, point: Point, found: _Look) -> None:
    """Tells which output differs, and which operation is the first that does."""
    assert found.fault is not None
    index, how = found.fault
    message = (
        f"the {variant} variant of the Plan '{point.plan.name}' differs from its op list: "
        f"the output '{point.plan.outputs[index].name}' {how}"
    )
    first = _first_difference(variant, point)
    if first is not None:
        message += f". The first operation that differs is {describe(first)}"
    raise VariantError(message)


def _first_difference(variant: str, point: Point) -> Node | None:
    """The first operation whose result another run has with other numbers."""
    values: Mapping[Any, Any] = FORMS[variant].values(point.plan, point.arguments, point.seed)
    found: list[Node] = []

    def observe(node: Node, number: int, made: Any) -> None:
        theirs = values.get(number, made)
        if not found and isinstance(made, Tensor) and difference(made, theirs) > TOLERANCE:
            found.append(node)

    interpret(point.plan.graph, point.arguments, observe)
    return found[0] if found else None
