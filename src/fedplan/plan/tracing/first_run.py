"""The first run of a Plan: on the author's example, beside the function that it was made of."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import torch

from fedplan.errors import PlanExecutionError, TraceError
from fedplan.plan.plan import Plan
from fedplan.plan.random import RandomStream
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.signature import rows_of
from fedplan.plan.spec import BATCH
from fedplan.plan.tracing import words


@dataclasses.dataclass(frozen=True, slots=True)
class Expected:
    """What a result of a Plan is to be.

    Attributes:
        value: the result.
        before: what it was before the step, where the step changes it; what is compared is the change.
        certain: where the gradient is more than rounding, so that any optimizer goes the same way; None for
            everywhere.
        noise: what may come of rounding, whatever the size of the change.
    """

    value: torch.Tensor
    before: torch.Tensor | None = None
    certain: torch.Tensor | None = None
    noise: float = 0.0


Reference = Callable[..., Sequence[Expected | None]]
"""Gives what is expected of the first results; None for one that is not known."""

_TOLERANCE = 0.02
"""Of the largest number: what rounding may come to. A step that goes another way is further off."""

_ROUNDING = 1e-5
"""Of the largest number of all: a result may be nothing but rounding."""

_STRAY = 0.01
"""The share of a tensor's numbers that may be further off: which of two equal numbers is the largest, say."""


def expected_of(results: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> list[Expected]:
    """What is expected of the results of a function; what rounding may come to depends on all numbers."""
    noise = _ROUNDING * max((largest(tensor) for tensor in (*results, *given)), default=0.0)
    return [Expected(result, noise=noise) for result in results]


def largest(tensor: torch.Tensor) -> float:
    """The largest size of a number that is finite."""
    if not tensor.numel():
        return 0.0
    return float(tensor.detach().double().nan_to_num(0.0, 0.0, 0.0).abs().max())


def check_first_run(plan: Plan, reference: Reference | None, examples: Sequence[torch.Tensor]) -> None:
    """Runs a Plan on the examples, and compares what comes out with what is expected, also of one row.

    One row is the size with which PyTorch does most things in another way: what spreads over others, and
    which tensors lie in memory as they would after a copy.

    Args:
        plan: the Plan of the function.
        reference: what is to come out, for tensors like the examples; None where that is not known.
        examples: numbers that are out of range, such as classes, are no fault: an example shows shapes and
            dtypes. They are not written to.

    Raises:
        TraceError: a kernel refuses a dtype, or the results differ.
    """
    numbers = plan.draw(RandomStream(0), rows_of(plan.inputs, examples))
    try:
        made = interpret(plan.graph, [*examples, *numbers])
    except PlanExecutionError as error:
        zeros = [t if t.is_floating_point() else torch.zeros_like(t) for t in examples]
        try:
            interpret(plan.graph, [*zeros, *numbers])
        except PlanExecutionError as second:
            if _is_out_of_range(second):
                return
            dtypes = ", ".join(
                f"{item.name} of {item.dtype}"
                for item in plan.inputs
                if item.spec is None or item.spec.type in BATCH
            )
            raise TraceError(
                f"the Plan fails on its own example: {error}. The example has {dtypes}; most losses want "
                "labels of int64, and models data of their own dtype"
            ) from error
        return
    if reference is None or numbers:
        return  # it would draw others
    difference = _difference(plan, made, reference, examples)
    if difference is not None:
        raise TraceError(
            f"{difference}: the step goes another way when it is traced. Look for what asks for a type "
            "(`isinstance(x.shape[0], int)`, `type(x) is torch.Tensor`) or whether the step is traced "
            "(`torch.compiler.is_compiling()`), and for hooks on nodes of autograd"
        )
    first = [
        example[:1] if item.shape and item.shape[0] is None else example
        for item, example in zip(plan.inputs, examples, strict=True)
    ]
    try:
        made = interpret(plan.graph, first)
    except PlanExecutionError:
        return  # the Plan refuses one row
    difference = _difference(plan, made, reference, first)
    if difference is not None:
        raise TraceError(
            f"with one row, {difference}: the step does something else then. Look for what asks for the "
            "number of rows, and for what writes in place to a tensor that may be a copy, as after "
            "`.contiguous()` and `.reshape()`; or pin the batch size with pin_batch=True"
        )


def _results(reference: Reference, examples: Sequence[torch.Tensor]) -> Sequence[Expected | None]:
    """What is expected; nothing where the function fails, or needs a trace to run."""
    try:
        with torch.random.fork_rng(devices=[]), words.told_before():
            return reference(*(example.clone() for example in examples))
    except Exception:  # noqa: BLE001  # the author's code on an example whose values need not mean anything
        return []


def _difference(
    plan: Plan, made: Sequence[torch.Tensor], reference: Reference, examples: Sequence[torch.Tensor]
) -> str | None:
    """Which result of a Plan is another one than the function's, if that has one result only."""
    known = _results(reference, examples)
    for place, (ours, expected) in enumerate(zip(made, known, strict=False)):
        if expected is None or _is_met(expected, ours):
            continue
        with _no_memory_of_old():
            again = _results(reference, examples)
        same = again[place] if place < len(again) else None
        if same is not None and _is_met(expected, same.value):
            return (
                f"the Plan's '{plan.outputs[place].name}' of the example is {_shown(ours)}, and that of the "
                f"step itself {_shown(expected.value)}"
            )
    return None


@contextlib.contextmanager
def _no_memory_of_old() -> Iterator[None]:
    """While it lasts, memory that `torch.empty` gives holds no numbers."""
    before, warns = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warns)


def _is_met(expected: Expected, ours: torch.Tensor) -> bool:
    if ours.shape != expected.value.shape:
        return False
    if not ours.numel():
        return True
    before = 0.0 if expected.before is None else expected.before.double()
    theirs = expected.value.detach().double()
    rounding = 8 * torch.finfo(ours.dtype).eps if ours.is_floating_point() else 0.0
    bound = _TOLERANCE * largest(theirs - before) + rounding * largest(theirs)
    differ = ~torch.isclose(ours.double(), theirs, rtol=0.0, atol=bound + expected.noise, equal_nan=True)
    compared = differ if expected.certain is None else differ[expected.certain]
    return float(compared.sum()) <= _STRAY * compared.numel()


def _shown(value: torch.Tensor) -> str:
    if value.numel() == 1:
        return f"{float(value):.6g}"
    return f"of the shape {list(value.shape)}" + (
        f", first {float(value.flatten()[0]):.6g}" if value.numel() else ""
    )


def _is_out_of_range(error: PlanExecutionError) -> bool:
    """Whether an operation failed because of a number in a tensor, or for want of memory."""
    cause = str(error.__cause__)
    return isinstance(error.__cause__, LookupError) or "out of bounds" in cause or "allocate memory" in cause
