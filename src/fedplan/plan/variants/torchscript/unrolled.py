"""A graph without recurrent operations, for runtimes that have no loop."""

import dataclasses
import itertools
from collections.abc import Sequence

from fedplan.plan.ir.graph import Graph, Ref
from fedplan.plan.ops import OPS
from fedplan.plan.recurrence.schema import RECURRENCES
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.expand import expand

_OPERATIONS = frozenset(recurrence.operator for recurrence in RECURRENCES.values())


def unrolled(graph: Graph, inputs: Sequence[PlanInput]) -> Graph:
    """The graph with each recurrent operation said step by step, with core ATen operations.

    Values of the graph keep their numbers.

    Args:
        graph: a verified graph.
        inputs: shapes and dtypes of its inputs; dimensions of any size keep it. The number of time steps is
            fixed.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        TraceError: the graph cannot be run on shapes.
    """
    if not any(node.op in _OPERATIONS for node in graph.nodes):
        return graph
    expanded = expand(graph, inputs, OPS.keys() - _OPERATIONS)
    known = {new: old for old, new in expanded.numbers.items()}
    fresh = itertools.count(max(graph.numbers()) + 1)
    numbers = {new: known[new] if new in known else next(fresh) for new in sorted(expanded.graph.numbers())}
    return Graph(
        tuple(numbers[number] for number in expanded.graph.inputs),
        tuple((numbers[number], value) for number, value in expanded.graph.constants),
        tuple(
            dataclasses.replace(
                node.replace(lambda number: Ref(numbers[number])),
                results=tuple(numbers[r] for r in node.results),
            )
            for node in expanded.graph.nodes
        ),
        tuple(numbers[number] for number in expanded.graph.outputs),
    )
