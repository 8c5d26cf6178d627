"""A graph for one set of shapes: what is known before the data comes is computed once."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import torch

from fedplan.errors import PlanExecutionError
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import OPS, Kind, lookup
from fedplan.plan.run.cost import nbytes
from fedplan.plan.run.interpreter import run_node
from fedplan.plan.run.precision import without_autocast

_MAX_BYTES = 64 * 1024
"""A value that is computed in advance takes no more: an executor keeps it as long as it lives."""

_MAX_ALL_BYTES = 4 * 2**20


def with_known_sizes(graph: Graph, values: Mapping[int, Any]) -> Graph:
    """The graph with sizes as numbers in place of the operations that compute them."""

    def known(number: int) -> Arg:
        value = values[number]
        return value if isinstance(value, int | float) else Ref(number)

    nodes = tuple(n.replace(known) for n in graph.nodes if lookup(n.op).kind is not Kind.SIZE)
    return dataclasses.replace(graph, nodes=nodes)


def with_fixed_inputs(graph: Graph, values: dict[int, Any], fixed: Mapping[int, torch.Tensor]) -> Graph:
    """The graph with inputs whose value stays the same as constants.

    Args:
        graph: a graph.
        values: every value by its number; the constants are added.
        fixed: by number of an input, its value.
    """
    fresh = itertools.count(max(values, default=0) + 1)
    numbers = {number: next(fresh) for number in fixed}
    constants = tuple((numbers[number], value) for number, value in fixed.items())
    values.update((new, values[number]) for number, new in numbers.items())
    return dataclasses.replace(
        graph,
        constants=(*graph.constants, *constants),
        nodes=tuple(n.replace(lambda number: Ref(numbers.get(number, number))) for n in graph.nodes),
        outputs=tuple(numbers.get(number, number) for number in graph.outputs),
    )


def folded(graph: Graph, values: Mapping[int, Any], device: torch.device) -> Graph:
    """The graph with small values that depend on no input as constants."""
    known: dict[int, Any] = {number: constant.to(device) for number, constant in graph.constants}
    made: list[tuple[int, torch.Tensor]] = []
    nodes: list[Node] = []
    left = _MAX_ALL_BYTES
    for node in graph.nodes:
        size = sum(nbytes(values[number]) for number in node.results)
        found = None
        if node.op in OPS and known.keys() >= set(node.refs()) and size <= min(left, _MAX_BYTES):
            found = _computed(node, known, device)
        if found is None:
            nodes.append(node)
            continue
        left -= size
        known.update(found)
        made += found.items()
    return dataclasses.replace(graph, nodes=tuple(nodes), constants=(*graph.constants, *made))


def _computed(node: Node, known: Mapping[int, Any], device: torch.device) -> dict[int, torch.Tensor] | None:
    """The values that an operation makes, or None when it fails, which it then does in its place."""
    try:
        with torch.no_grad(), without_autocast(device):
            found = dict(zip(node.results, run_node(node, known, device), strict=True))
    except PlanExecutionError:
        return None
    return found if all(isinstance(value, torch.Tensor) for value in found.values()) else None
