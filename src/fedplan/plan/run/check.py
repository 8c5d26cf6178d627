"""What a Plan will need, found out before it runs: shapes, memory and work, without touching any data.

Each operation runs on PyTorch's meta device, which knows shapes and dtypes and holds no memory. A Plan from
the network runs only after this has passed for the very shapes it is given.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError, PlanInputError, PlanLimitError
from fedplan.plan.ir.graph import Graph, Node
from fedplan.plan.ops import DTYPES, dtype_name
from fedplan.plan.run import cost
from fedplan.plan.run.cost import nbytes
from fedplan.plan.run.interpreter import describe, interpret, run_node
from fedplan.wire.tensor import MAX_RANK

ShapeAndDType = tuple[tuple[int, ...], str]
"""A tensor's shape and the name of its dtype."""

_META = torch.device("meta")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a Plan may use.

    Attributes:
        max_bytes: memory of the values that are alive at one time and of the kernel that runs, in bytes.
            Default 4 GiB.
        max_work: additions and multiplications of one run. Default 10¹³, some minutes of one core.
        max_operations: length of the operation list. Default 50,000.
    """

    max_bytes: int = 4 * 2**30
    max_work: int = 10**13
    max_operations: int = 50_000


DEFAULT_LIMITS = Limits()


@dataclasses.dataclass(frozen=True, slots=True)
class Cost:
    """What one run of a Plan needs.

    Attributes:
        outputs: shape and dtype of each output.
        peak_bytes: the most memory that values take at one time, inputs and constants included, and what
            kernels may need for themselves.
        work: estimated additions and multiplications.
    """

    outputs: tuple[ShapeAndDType, ...]
    peak_bytes: int
    work: int


@dataclasses.dataclass(frozen=True, slots=True)
class Measured:
    """A checked run.

    Attributes:
        cost: what it needs.
        values: every value by its number: a tensor on the meta device, or a size as a number.
    """

    cost: Cost
    values: Mapping[int, Any]


def measure(graph: Graph, inputs: Sequence[ShapeAndDType], limits: Limits = DEFAULT_LIMITS) -> Measured:
    """Runs shapes through a graph.

    Args:
        graph: a verified graph.
        inputs: shape and dtype of each input.
        limits: what the run may use.

    Raises:
        PlanLimitError: the run would use more.
        PlanExecutionError: an operation cannot work with these shapes.
    """
    if len(graph.nodes) > limits.max_operations:
        raise PlanLimitError(
            f"the Plan has {len(graph.nodes)} operations; {limits.max_operations} are allowed"
        )
    values: dict[int, Any] = {
        number: _meta(shape, dtype) for number, (shape, dtype) in zip(graph.inputs, inputs, strict=True)
    }
    values |= {number: constant.to(_META) for number, constant in graph.constants}
    alive = sum(map(nbytes, values.values()))
    peak = alive
    work = 0
    for node, dying in zip(graph.nodes, graph.last_uses(), strict=True):
        results = run_node(node, values, _META)
        values.update(zip(node.results, results, strict=True))
        _hold_shapes(node, results)
        work += cost.work(node, values)
        alive += sum(map(nbytes, results))
        peak = max(peak, alive + cost.scratch(node, values))
        _hold(node, peak, work, limits)
        alive -= sum(nbytes(values[number]) for number in dying)
    return Measured(Cost(tuple(_output(values[o]) for o in graph.outputs), peak, work), values)


def _meta(shape: Sequence[int], dtype: str) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=DTYPES[dtype], device=_META)
    except (RuntimeError, KeyError) as error:
        raise PlanInputError(f"no tensor has the shape {tuple(shape)} and the dtype {dtype}") from error


def _output(value: Any) -> ShapeAndDType:
    if not isinstance(value, torch.Tensor):
        raise PlanExecutionError("an output of the Plan is a number or nothing where a tensor is needed")
    return tuple(value.shape), _dtype(value)


def _hold_shapes(node: Node, results: Sequence[Any]) -> None:
    """Some kernels make shapes that no other kernel expects, such as an extent of -1."""
    for value in results:
        if isinstance(value, torch.Tensor) and (value.dim() > MAX_RANK or min(value.shape, default=0) < 0):
            raise PlanExecutionError(
                f"{describe(node)} makes a tensor of the shape {list(value.shape)[: MAX_RANK + 1]}; a shape "
                f"has {MAX_RANK} dimensions at most and no negative extent"
            )


def _hold(node: Node, peak: int, work: int, limits: Limits) -> None:
    if peak > limits.max_bytes:
        raise PlanLimitError(
            f"at {describe(node)} the Plan would hold {peak:,} bytes; {limits.max_bytes:,} are allowed "
            "(Limits.max_bytes)"
        )
    if work > limits.max_work:
        raise PlanLimitError(
            f"up to {describe(node)} the Plan would do {work:,} operations on numbers; {limits.max_work:,} "
            "are allowed (Limits.max_work)"
        )


def _dtype(value: torch.Tensor) -> str:
    return dtype_name(value.dtype)


def first_run(
    graph: Graph, inputs: Sequence[torch.Tensor], measured: Measured
) -> tuple[list[torch.Tensor], Mapping[int, Any]]:
    """Runs a graph for the first time after its check, and holds it to what the check foresaw.

    A kernel's answer may have another shape or dtype than its meta form says (batch normalisation without
    training returns empty statistics, a loss whose reduction does not exist returns their sum). No value may
    be larger than foreseen, no size another one; guards see the real tensors.

    Args:
        graph: the checked graph.
        inputs: one tensor an input.
        measured: what the check foresaw for inputs of these shapes.

    Returns:
        The outputs, and every value as it really is: a tensor on the meta device, or a size as a number.

    Raises:
        PlanExecutionError: an operation failed, or its result is not what was foreseen.
    """
    real = dict(measured.values)

    def hold(node: Node, number: int, value: Any) -> None:
        foreseen = measured.values[number]
        tensors = isinstance(value, torch.Tensor | None) and isinstance(foreseen, torch.Tensor | None)
        if nbytes(value) > nbytes(foreseen) if tensors else value != foreseen:
            raise PlanExecutionError(f"{describe(node)} made another value than its check foresaw")
        real[number] = value.to(_META) if isinstance(value, torch.Tensor) else value

    return interpret(graph, inputs, hold), real
