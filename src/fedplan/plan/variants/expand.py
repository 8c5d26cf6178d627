"""Saying a graph with fewer kinds of operations, by PyTorch's own decompositions and our `expansions`.

A translator needs a rule only for what cannot be said with simpler operations: the gradient of a layer norm,
for one, becomes products and sums here, and nothing of it is written by hand.
"""

import dataclasses
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table
from torch.fx import traceback as fx_traceback

from fedplan.plan.ir.arguments import bind
from fedplan.plan.ir.graph import Graph, Node
from fedplan.plan.ir.rewrite import prune
from fedplan.plan.ops import DTYPES, OPS, lookup, overload
from fedplan.plan.run.interpreter import fetch
from fedplan.plan.signature import PlanInput
from fedplan.plan.tracing.decompositions import after_autograd
from fedplan.plan.tracing.lower import SIZES, lower
from fedplan.plan.tracing.symbolic import retrace
from fedplan.plan.variants.expansions import EXPANSIONS, PLAINER, Expansion

_EXAMPLE_ROWS = 7
"""Extent of dimensions of any size while a graph is recorded; it stays a symbol."""


@dataclasses.dataclass(frozen=True, slots=True)
class Expanded:
    """A graph in fewer kinds of operations.

    Attributes:
        graph: computes the same as the original.
        numbers: for values of the original that are values of `graph` too, their number there.
    """

    graph: Graph
    numbers: Mapping[int, int]


def expand(
    graph: Graph, inputs: Sequence[PlanInput], kept: Collection[str], plain: Collection[str] = ()
) -> Expanded:
    """Says a graph with fewer kinds of operations, as far as there are expansions or decompositions.

    Args:
        graph: a verified graph.
        inputs: shapes and dtypes of its inputs; dimensions of any size keep it.
        kept: names of operations that stay as they are.
        plain: of these, the ones that stay in their plain form only; names of `PLAINER`.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        UnsupportedOpError: a decomposition uses an operation outside the op table.
        TraceError: the graph cannot be run on shapes.
    """
    constants = [value for _, value in graph.constants]
    examples = [*(_example(item) for item in inputs), *constants]
    free = [*(item.any_rows for item in inputs), *(False for _ in constants)]
    numbers: list[int] = []

    def run(*values: torch.Tensor) -> list[torch.Tensor]:
        """Returns every tensor of the graph, and notes their numbers."""
        found = _tensors(graph, values)
        numbers[:] = found
        return list(found.values())

    recorded = lower(retrace(run, examples, free, _decompositions(kept, plain)), constants)
    known = dict(zip(numbers, recorded.outputs, strict=True))
    expanded = prune(dataclasses.replace(recorded, outputs=tuple(known[o] for o in graph.outputs)))
    defined = {*expanded.defined(), *(number for node in expanded.nodes for number in node.results)}
    return Expanded(expanded, {old: new for old, new in known.items() if new in defined})


def _example(item: PlanInput) -> torch.Tensor:
    shape, dtype = item.with_rows(_EXAMPLE_ROWS)
    return torch.empty(shape, dtype=DTYPES[dtype])


def _tensors(graph: Graph, given: Sequence[torch.Tensor]) -> dict[int, torch.Tensor]:
    """Every tensor of a run on inputs and constants. Guards are not asked: sizes are symbols here."""
    first = (*graph.inputs, *(number for number, _ in graph.constants))
    values: dict[int, Any] = dict(zip(first, given, strict=True))
    for node in graph.nodes:
        if node.source is not None:
            fx_traceback.set_stack_trace([node.source])
        positional, keywords = bind(node, torch.device("cpu"))
        options = {name: fetch(arg, values) for name, arg in keywords.items()}
        made = _function(node)(*(fetch(arg, values) for arg in positional), **options)
        values.update(zip(node.results, made if isinstance(made, tuple | list) else (made,), strict=True))
    return {number: value for number, value in values.items() if isinstance(value, torch.Tensor)}


_SIZE_FUNCTIONS = {name: function for function, name in SIZES.items()}


def _function(node: Node) -> Callable[..., Any]:
    return _SIZE_FUNCTIONS.get(node.op) or lookup(node.op).implementation or overload(node.op)


def _decompositions(kept: Collection[str], plain: Collection[str]) -> Mapping[Any, Callable[..., Any]]:
    """What stands in the place of operators that are not kept, or not as they are."""
    own = {name: rule for name, rule in EXPANSIONS.items() if name not in kept}
    own |= {name: PLAINER[name] for name in plain}
    rules: dict[Any, Any] = {op: rule for op, rule in after_autograd().items() if str(op) not in OPS}
    rules |= {
        operator: decomposition_table.get(operator)
        for operator in (overload(op.name) for op in OPS.values() if op.implementation is None)
        if str(operator) not in kept
    }
    rules |= {overload(name): _in_order(rule) for name, rule in own.items()}
    return {operator: rule for operator, rule in rules.items() if rule is not None}


def _in_order(rule: Expansion) -> Expansion:
    """An expansion whose results lie in memory as a kernel's do: PyTorch's decompositions look at that."""

    def call(*args: Any, **options: Any) -> Any:
        made = rule(*args, **options)
        several = isinstance(made, tuple)
        whole = [
            value.contiguous() if isinstance(value, torch.Tensor) else value
            for value in (made if several else (made,))
        ]
        return tuple(whole) if several else whole[0]

    return call
