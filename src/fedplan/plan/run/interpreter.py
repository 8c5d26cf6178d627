"""The reference executor: one operation after the other, as the graph says, and nothing else.

It is slow and plain on purpose. `fedplan.plan.run.compiler` is the fast executor; both pass the same tests.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError
from fedplan.plan.ir.arguments import bind
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import lookup
from fedplan.plan.run.aliasing import looked_at
from fedplan.plan.run.precision import without_autocast

KERNEL_ERRORS = (
    RuntimeError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    MemoryError,
)
"""What PyTorch's operators, their Python forms on the meta device, and guards raise for arguments that they
cannot work with."""

Observer = Callable[[Node, int, Any], None]
"""Called with an operation, the number of one of its results, and that result."""


def interpret(
    graph: Graph, inputs: Sequence[torch.Tensor], observe: Observer | None = None
) -> list[torch.Tensor]:
    """Runs a graph.

    Args:
        graph: a verified graph.
        inputs: one tensor an input, all on one device; they are not changed.
        observe: sees each result before anything reads it, and may raise.

    Returns:
        The outputs, in order. None has memory of a constant.

    Raises:
        PlanExecutionError: an operation failed; the message names it.
    """
    device = inputs[0].device if inputs else torch.device("cpu")
    values: dict[int, Any] = dict(zip(graph.inputs, inputs, strict=True))
    values |= {number: constant.to(device) for number, constant in graph.constants}
    with torch.no_grad(), without_autocast(device):
        for node, dying in zip(graph.nodes, graph.last_uses(), strict=True):
            for number, made in zip(node.results, run_node(node, values, device), strict=True):
                if observe:
                    observe(node, number, made)
                values[number] = made
            for number in dying:
                del values[number]
    viewed, kept = looked_at(graph), {number for number, _ in graph.constants}
    return [
        values[number].clone() if viewed.get(number, number) in kept else values[number]
        for number in graph.outputs
    ]


def run_node(node: Node, values: Mapping[int, Any], device: torch.device) -> tuple[Any, ...]:
    """Runs one operation on the values it reads, after its guard, and returns one value a result.

    Raises:
        PlanExecutionError: the guard or PyTorch refused the arguments, or the number of results is another.
    """
    op = lookup(node.op)
    positional, keywords = bind(node, device)
    args = [fetch(arg, values) for arg in positional]
    options = {name: fetch(arg, values) for name, arg in keywords.items()}
    try:
        refusal = op.refuse([*args, *options.values()], len(node.results))
        made = None if refusal else op.call(*args, **options)
    except KERNEL_ERRORS as error:
        raise PlanExecutionError(f"{describe(node)} failed: {error}") from error
    if refusal:
        raise PlanExecutionError(f"{describe(node)} is refused: {refusal}")
    results = tuple(made) if isinstance(made, tuple | list) else (made,)
    if len(results) != len(node.results):
        raise PlanExecutionError(
            f"{describe(node)} made {len(results)} values instead of {len(node.results)}"
        )
    return results


def fetch(arg: Any, values: Mapping[int, Any]) -> Any:
    """An argument with the values that it refers to."""
    if isinstance(arg, Ref):
        return values[arg.id]
    if isinstance(arg, tuple):
        return [fetch(item, values) for item in arg]
    return arg


def describe(node: Node) -> str:
    """An operation, with its line in the author's code, for a message."""
    return f"'{node}' ({node.source})" if node.source else f"'{node}'"
