"""Pictures with the channels of a pixel side by side, which pools and convolutions on a CPU read faster."""

import dataclasses
import itertools
from typing import Any

from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import Kind, row
from fedplan.plan.ops.executor import CHANNELS_LAST

_POOL = "aten.max_pool2d_with_indices.default"


def channels_last(graph: Graph, values: dict[int, Any]) -> Graph:
    """The graph with the pictures that go into convolutions in that layout; what comes out has it then.

    Only in a graph that pools: the largest of four values is found six times as fast, and convolutions alone
    gain little. The layout of a value is all that changes, and the order of a convolution's additions.

    Args:
        graph: a graph of known shapes.
        values: every value by its number; new ones are added.
    """
    if all(node.op != _POOL for node in graph.nodes):
        return graph
    fresh = itertools.count(max(values, default=0) + 1)
    laid: dict[int, int] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        place = _picture(node)
        picture = None if place is None else node.args[place]
        if isinstance(picture, Ref) and place is not None and values[picture.id].dim() == 4:
            if picture.id not in laid:
                laid[picture.id] = number = next(fresh)
                values[number] = values[picture.id]
                nodes.append(Node(CHANNELS_LAST, (picture,), (number,), node.source))
            args: list[Arg] = list(node.args)
            args[place] = Ref(laid[picture.id])
            nodes.append(dataclasses.replace(node, args=tuple(args)))
        else:
            nodes.append(node)
    return dataclasses.replace(graph, nodes=tuple(nodes))


def _picture(node: Node) -> int | None:
    """Which argument of a convolution, or of its gradient, is the picture."""
    op = row(node.op)
    if op.kind is not Kind.CONVOLUTION:
        return None
    return next(place for place, argument in enumerate(op.arguments) if argument.name == "input")
