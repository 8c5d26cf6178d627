"""Rewriting graphs: lists of small rules, each true for all values, and passes that apply them.

A rule looks at one operation, at those that made its arguments, and at dtypes that are known. It answers with
the operation's replacement: another operation, an existing value, or None for "leave it".
"""

import dataclasses
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch

from fedplan.plan.ir.graph import Arg, Graph, Node, Ref, exact


class Values:
    """What is known of the values that a rule looks at."""

    def __init__(self, dtypes: Mapping[int, torch.dtype]) -> None:
        self._dtypes = dtypes
        self.makers: dict[int, Node] = {}

    def maker(self, arg: Arg) -> Node | None:
        """What made a value; None for inputs, constants, numbers and parts of several results."""
        return self.makers.get(arg.id) if isinstance(arg, Ref) else None

    def dtype(self, arg: Arg) -> torch.dtype | None:
        """The dtype of a tensor; None where it is not known."""
        return self._dtypes.get(arg.id) if isinstance(arg, Ref) else None


Rule = Callable[[Node, Values], Node | Ref | None]


def _permute_of_permute(node: Node, values: Values) -> Node | Ref | None:
    """Two permutations are one; one that changes nothing is none."""
    source, dims = node.args
    inner = values.maker(source)
    if inner is not None and inner.op == node.op:
        order = inner.args[1]
        assert isinstance(order, tuple)
        assert isinstance(dims, tuple)
        return dataclasses.replace(node, args=(inner.args[0], tuple(order[_index(d)] for d in dims)))
    if isinstance(source, Ref) and isinstance(dims, tuple) and all(d == i for i, d in enumerate(dims)):
        return source
    return None


def _index(dim: Arg) -> int:
    assert isinstance(dim, int)
    return dim


def _reshape_of_reshape(node: Node, values: Values) -> Node | Ref | None:
    """Only the last of two shapes matters."""
    inner = values.maker(node.args[0])
    if inner is None or inner.op != node.op:
        return None
    return dataclasses.replace(node, args=(inner.args[0], *node.args[1:]))


def _select_of_cat(node: Node, values: Values) -> Node | Ref | None:
    """One of several tensors that were stacked, if these have one dtype: else `cat` has converted them."""
    source, dim, place = (*node.args, 0, 0)[:3]
    stacked = values.maker(source)
    if stacked is None or stacked.op != "aten.cat.default" or dim != (*stacked.args, 0)[1]:
        return None
    pieces = stacked.args[0]
    assert isinstance(pieces, tuple)
    if not isinstance(place, int) or not -len(pieces) <= place < len(pieces):
        return None
    makers = [values.maker(piece) for piece in pieces]
    if any(made is None or made.op != "aten.unsqueeze.default" or made.args[1] != dim for made in makers):
        return None
    if len({values.dtype(piece) for piece in pieces}) > 1 or values.dtype(pieces[place]) is None:
        return None
    chosen = makers[place]
    assert chosen is not None
    original = chosen.args[0]
    return original if isinstance(original, Ref) else None


SIMPLIFY: Mapping[str, Sequence[Rule]] = {
    "aten.permute.default": (_permute_of_permute,),
    "aten.reshape.default": (_reshape_of_reshape,),
    "aten.select.int": (_select_of_cat,),
}
"""Rules that make a graph shorter for every reader and every executor, by operation."""


def dtypes(values: Mapping[int, Any]) -> dict[int, torch.dtype]:
    """The dtypes of those values that are tensors, by number."""
    return {number: value.dtype for number, value in values.items() if isinstance(value, torch.Tensor)}


def apply(
    graph: Graph, rules: Mapping[str, Sequence[Rule]], dtypes: Mapping[int, torch.dtype] | None = None
) -> Graph:
    """The graph with each operation rewritten by the rules for it, until none applies to it.

    Equal operations on equal arguments become one on the way.

    Args:
        graph: any graph.
        rules: by operation.
        dtypes: of values, by number, as far as they are known.
    """
    replaced: dict[int, Ref] = {}
    values = Values(dtypes or {})
    seen: dict[Hashable, Node] = {}
    nodes: list[Node] = []

    for original in graph.nodes:
        node = _rewritten(original.replace(lambda number: replaced.get(number, Ref(number))), rules, values)
        if isinstance(node, Ref):
            replaced[original.results[0]] = node
            continue
        key = (node.op, exact(node.args), len(node.results))
        twin = seen.setdefault(key, node)
        if twin is not node:
            replaced.update(zip(node.results, map(Ref, twin.results), strict=True))
            continue
        nodes.append(node)
        if len(node.results) == 1:
            values.makers[node.results[0]] = node
    outputs = tuple(replaced.get(number, Ref(number)).id for number in graph.outputs)
    return dataclasses.replace(graph, nodes=tuple(nodes), outputs=outputs)


def _rewritten(node: Node, rules: Mapping[str, Sequence[Rule]], values: Values) -> Node | Ref:
    """The operation after its rules; each answer is looked at again."""
    for rule in rules.get(node.op, ()):
        answer = rule(node, values)
        if answer is not None:
            return answer if isinstance(answer, Ref) else _rewritten(answer, rules, values)
    return node


def prune(graph: Graph) -> Graph:
    """The graph without operations and constants that no output needs."""
    needed = set(graph.outputs)
    nodes = []
    for node in reversed(graph.nodes):
        if needed.intersection(node.results):
            needed.update(node.refs())
            nodes.append(node)
    constants = tuple((number, value) for number, value in graph.constants if number in needed)
    return dataclasses.replace(graph, nodes=tuple(reversed(nodes)), constants=constants)


def renumber(graph: Graph) -> Graph:
    """The graph with its values numbered in the order of their appearance: inputs, constants, results."""
    numbers: dict[int, int] = {}
    for number in (
        *graph.inputs,
        *(n for n, _ in graph.constants),
        *(r for n in graph.nodes for r in n.results),
    ):
        numbers[number] = len(numbers)
    nodes = tuple(
        dataclasses.replace(
            node.replace(lambda number: Ref(numbers[number])), results=tuple(numbers[r] for r in node.results)
        )
        for node in graph.nodes
    )
    return Graph(
        inputs=tuple(numbers[i] for i in graph.inputs),
        constants=tuple((numbers[number], value) for number, value in graph.constants),
        nodes=nodes,
        outputs=tuple(numbers[o] for o in graph.outputs),
    )


def simplify(graph: Graph, dtypes: Mapping[int, torch.dtype] | None = None) -> Graph:
    """The same computation, said shortly; the dtypes of values, by number, as far as they are known."""
    return renumber(prune(apply(graph, SIMPLIFY, dtypes)))
