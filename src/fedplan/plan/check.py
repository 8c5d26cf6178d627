"""What a Plan will need, found out before it runs: shapes, memory and work, without touching any data.

Each operation runs on PyTorch's meta device, which knows shapes and dtypes and holds no memory. A Plan from
the network runs only after this has passed for the very shapes it is given.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError, PlanLimitError
from fedplan.plan.interpreter import describe, fetch, run_node
from fedplan.plan.ir import Graph, Node, bind
from fedplan.plan.ops import DTYPES, Kind, lookup

ShapeAndDType = tuple[tuple[int, ...], str]
"""A tensor's shape and the name of its dtype."""

_META = torch.device("meta")


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a Plan may use.

    Attributes:
        max_bytes: memory of the values that are alive at one time, in bytes. Default 4 GiB.
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
        peak_bytes: the most memory that values take at one time, inputs and constants included.
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
        number: torch.empty(shape, dtype=DTYPES[dtype], device=_META)
        for number, (shape, dtype) in zip(graph.inputs, inputs, strict=True)
    }
    values |= {number: constant.to(_META) for number, constant in graph.constants}
    alive = sum(map(_nbytes, values.values()))
    peak = alive
    work = 0
    for node, dying in zip(graph.nodes, graph.last_uses(), strict=True):
        results = _shapes_of(node, values)
        values.update(zip(node.results, results, strict=True))
        work += _work(node, values)
        alive += sum(map(_nbytes, results))
        peak = max(peak, alive)
        _hold(node, peak, work, limits)
        alive -= sum(_nbytes(values[number]) for number in dying)
    outputs = tuple((tuple(values[o].shape), _dtype(values[o])) for o in graph.outputs)
    return Measured(Cost(outputs, peak, work), values)


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


def _shapes_of(node: Node, values: dict[int, Any]) -> tuple[Any, ...]:
    """The results of one operation on the meta device, after its guard."""
    op = lookup(node.op)
    args = [fetch(arg, values) for arg in (*bind(node)[0], *bind(node)[1].values())]
    try:
        refusal = op.guard(args) if op.guard else None
        count = op.count_results(args)
    except (AttributeError, TypeError, IndexError, ValueError) as error:
        raise PlanExecutionError(f"{describe(node)} has arguments of the wrong kinds: {error}") from error
    if refusal is not None:
        raise PlanExecutionError(f"{describe(node)} is refused: {refusal}")
    if count is not None and count > len(node.results):
        raise PlanExecutionError(f"{describe(node)} would make {count} values instead of {len(node.results)}")
    return run_node(node, values, _META)


def _nbytes(value: Any) -> int:
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def _dtype(value: Any) -> str:
    return str(value.dtype).removeprefix("torch.") if isinstance(value, torch.Tensor) else "int64"


def _work(node: Node, values: dict[int, Any]) -> int:
    """Additions and multiplications of one operation, roughly: enough to tell minutes from years."""
    tensors: list[torch.Tensor] = [v for v in map(values.get, node.refs()) if isinstance(v, torch.Tensor)]
    made: list[torch.Tensor] = [v for v in map(values.get, node.results) if isinstance(v, torch.Tensor)]
    elements = sum(t.numel() for t in made)
    kind = lookup(node.op).kind
    if kind is Kind.MATMUL and len(tensors) >= 2:
        return 2 * elements * max(tensors[-2].shape[-1] if tensors[-2].dim() else 1, 1)
    if kind is Kind.CONVOLUTION and len(tensors) >= 2:
        backward = "backward" in node.op
        output, weight = (tensors[0], tensors[2]) if backward else (made[0], tensors[1])
        return (4 if backward else 2) * output.numel() * math.prod(weight.shape[1:])
    return elements + sum(t.numel() for t in tensors)
