"""The first run of a Plan: on the author's example, beside the function that it was made of."""

from collections.abc import Callable, Sequence

import torch

from fedplan.errors import PlanExecutionError, TraceError
from fedplan.plan.plan import Plan
from fedplan.plan.random import RandomStream
from fedplan.plan.run.interpreter import interpret
from fedplan.plan.signature import rows_of
from fedplan.plan.spec import BATCH, PlanOutputSpec
from fedplan.plan.tracing import words

_TOLERANCE = 0.02
"""Of the largest number: what rounding may come to. A step that goes another way is further off."""

_COMPARED = (PlanOutputSpec.TYPE_LOSS, PlanOutputSpec.TYPE_METRIC)
"""What is compared of a step; new parameters follow from the same operations, by an optimizer that was traced
apart."""


def check_first_run(
    plan: Plan, function: Callable[..., Sequence[torch.Tensor]], examples: Sequence[torch.Tensor]
) -> None:
    """Runs a Plan on the examples, and compares what comes out with what the function gives.

    Args:
        plan: the Plan of the function.
        function: called with as many tensors as there are examples.
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
    if not numbers:
        _compare(plan, made, _results(function, examples))


def _results(
    function: Callable[..., Sequence[torch.Tensor]], examples: Sequence[torch.Tensor]
) -> Sequence[torch.Tensor] | None:
    """What the function gives; None where it needs a trace to run."""
    try:
        with torch.random.fork_rng(devices=[]), words.told_before():
            return function(*(example.clone() for example in examples))
    except Exception:  # noqa: BLE001  # the author's code on an example whose values need not mean anything
        return None


def _compare(plan: Plan, made: Sequence[torch.Tensor], expected: Sequence[torch.Tensor] | None) -> None:
    for output, ours, theirs in zip(plan.outputs, made, expected or made, strict=True):
        if (output.spec is None or output.spec.type in _COMPARED) and not _are_close(ours, theirs):
            raise TraceError(
                f"the Plan's '{output.name}' of the example is {_shown(ours)}, and that of the step itself "
                f"{_shown(theirs)}: the step goes another way when it is traced. Look for what asks for the "
                "type of a size (`isinstance(x.shape[0], int)`) or whether the step is traced "
                "(`torch.compiler.is_compiling()`)"
            )


def _are_close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    if ours.shape != theirs.shape:
        return False
    first, second = ours.double(), theirs.detach().double()
    largest = float(second.nan_to_num(0.0, 0.0, 0.0).abs().max()) if second.numel() else 0.0
    return torch.allclose(first, second, rtol=0.0, atol=_TOLERANCE * max(largest, 1e-6), equal_nan=True)


def _shown(value: torch.Tensor) -> str:
    return f"{float(value):.6g}" if value.numel() == 1 else f"first {float(value.flatten()[0]):.6g}"


def _is_out_of_range(error: PlanExecutionError) -> bool:
    """Whether an operation failed because of a number in a tensor, or for want of memory."""
    cause = str(error.__cause__)
    return isinstance(error.__cause__, LookupError) or "out of bounds" in cause or "allocate memory" in cause
