"""A graph without some of its operations: each is expanded by itself, and everything else stays as it is."""

import dataclasses
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Any

import torch

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import OPS, dtype_name
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.batches import Values, measured
from fedplan.plan.variants.expand import expand


def without(graph: Graph, inputs: Sequence[PlanInput], operations: Collection[str]) -> Graph:
    """The graph with some operations said by others. Values keep their numbers; new ones have numbers above.

    Args:
        graph: a verified graph.
        inputs: shapes and dtypes of its inputs; not looked at where the graph has none of the operations.
        operations: names of those that are not wanted.

    Raises:
        PlanFormatError: an input does not say its shape or dtype.
        TranslationError: an extent of an operation that is not the first one follows the batch size.
        UnsupportedOpError: an expansion uses an operation outside the op table.
    """
    if not any(node.op in operations for node in graph.nodes):
        return graph
    small, large = measured(graph, inputs)
    kept = OPS.keys() - operations
    known: dict[tuple[str, tuple[PlanInput, ...]], Graph] = {}  # alike operations have one expansion
    fresh = itertools.count(max(graph.numbers()) + 1)
    same: dict[int, Ref] = {}  # results that are other values
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op not in operations:
            nodes.append(node.replace(lambda number: same.get(number, Ref(number))))
            continue
        alone, given = _alone(node, small, large)
        key = (str(alone), given)
        if key not in known:
            known[key] = expand(alone, given, kept).graph
        nodes += _placed(known[key], alone, node, fresh, same)
    outputs = tuple(same.get(number, Ref(number)).id for number in graph.outputs)
    return dataclasses.replace(graph, nodes=tuple(nodes), outputs=outputs)


def _alone(node: Node, small: Values, large: Values) -> tuple[Graph, tuple[PlanInput, ...]]:
    """The operation as a graph of its own, and what goes into it."""
    read = tuple(dict.fromkeys(node.refs()))
    places = {number: place for place, number in enumerate(read)}
    made = tuple(range(len(read), len(read) + len(node.results)))
    moved = dataclasses.replace(node.replace(lambda number: Ref(places[number])), results=made)
    outputs = tuple(
        new for new, old in zip(made, node.results, strict=True) if isinstance(small[old], torch.Tensor)
    )
    given = tuple(_input(node, small[number], large[number]) for number in read)
    return Graph(tuple(range(len(read))), (), (moved,), outputs), given


def _input(node: Node, small: Any, large: Any) -> PlanInput:
    """A value that an operation reads, with its first extent open if that follows the batch size."""
    if isinstance(small, torch.Tensor) and small.shape[1:] == large.shape[1:]:
        first = [
            None if few != many else few for few, many in zip(small.shape[:1], large.shape[:1], strict=True)
        ]
        return PlanInput("value", (*first, *small.shape[1:]), dtype_name(small.dtype))
    raise TranslationError(
        node.op,
        "TorchScript",
        source=node.source,
        why="The size of its pictures depends on the batch size; pin it with pin_batch=True.",
    )


def _placed(
    part: Graph, alone: Graph, node: Node, fresh: Iterator[int], same: dict[int, Ref]
) -> Iterator[Node]:
    """The operations of an expansion in the place of an operation; notes results that are other values."""
    read = tuple(dict.fromkeys(node.refs()))
    names = {place: same.get(number, Ref(number)) for place, number in zip(part.inputs, read, strict=True)}
    results = dict(zip(alone.nodes[0].results, node.results, strict=True))
    for new, old in zip(part.outputs, (results[output] for output in alone.outputs), strict=True):
        if new in names:
            same[old] = names[new]
        else:
            names[new] = Ref(old)
    for number in (*(n for n, _ in part.constants), *(n for each in part.nodes for n in each.results)):
        names.setdefault(number, Ref(next(fresh)))
    for each in part.nodes:
        made = tuple(names[number].id for number in each.results)
        moved = each.replace(lambda number: names[number])
        yield dataclasses.replace(moved, results=made, source=node.source)
