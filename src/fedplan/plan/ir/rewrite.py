"""Rewriting graphs: lists of small rules, each true for all values, and passes that apply them.

A rule looks at one operation and at those that made its arguments. It answers with the operation's
replacement: another operation, an existing value, or None for "leave it".
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

from fedplan.plan.ir.graph import Arg, Graph, Node, Ref

Makers = Callable[[Arg], Node | None]
"""The operation that made a value; None for inputs, constants, numbers and parts of several results."""

Rule = Callable[[Node, Makers], Node | Ref | None]


def _permute_of_permute(node: Node, maker: Makers) -> Node | Ref | None:
    """Two permutations are one; one that changes nothing is none."""
    source, dims = node.args
    inner = maker(source)
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


def _reshape_of_reshape(node: Node, maker: Makers) -> Node | Ref | None:
    """Only the last of two shapes matters."""
    inner = maker(node.args[0])
    if inner is None or inner.op != node.op:
        return None
    return dataclasses.replace(node, args=(inner.args[0], *node.args[1:]))


def _select_of_cat(node: Node, maker: Makers) -> Node | Ref | None:
    """One of several tensors that were stacked."""
    source, dim, place = (*node.args, 0, 0)[:3]
    stacked = maker(source)
    if stacked is None or stacked.op != "aten.cat.default" or dim != (*stacked.args, 0)[1]:
        return None
    pieces = stacked.args[0]
    assert isinstance(pieces, tuple)
    if not isinstance(place, int) or not -len(pieces) <= place < len(pieces):
        return None
    makers = [maker(piece) for piece in pieces]
    if any(made is None or made.op != "aten.unsqueeze.default" or made.args[1] != dim for made in makers):
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


def apply(graph: Graph, rules: Mapping[str, Sequence[Rule]]) -> Graph:
    """The graph with each operation rewritten by the rules for it, until none applies to it.

    Equal operations on equal arguments become one on the way.
    """
    replaced: dict[int, Ref] = {}
    makers: dict[int, Node] = {}
    seen: dict[tuple[str, tuple[Arg, ...], int], Node] = {}
    nodes: list[Node] = []

    def maker(arg: Arg) -> Node | None:
        return makers.get(arg.id) if isinstance(arg, Ref) else None

    for original in graph.nodes:
        node = _rewritten(original.replace(lambda number: replaced.get(number, Ref(number))), rules, maker)
        if isinstance(node, Ref):
            replaced[original.results[0]] = node
            continue
        key = (node.op, _typed(node.args), len(node.results))
        twin = seen.setdefault(key, node)
        if twin is not node:
            replaced.update(zip(node.results, map(Ref, twin.results), strict=True))
            continue
        nodes.append(node)
        if len(node.results) == 1:
            makers[node.results[0]] = node
    outputs = tuple(replaced.get(number, Ref(number)).id for number in graph.outputs)
    return dataclasses.replace(graph, nodes=tuple(nodes), outputs=outputs)


def _rewritten(node: Node, rules: Mapping[str, Sequence[Rule]], maker: Makers) -> Node | Ref:
    """The operation after its rules; each answer is looked at again."""
    for rule in rules.get(node.op, ()):
        answer = rule(node, maker)
        if answer is not None:
            return answer if isinstance(answer, Ref) else _rewritten(answer, rules, maker)
    return node


def _typed(args: tuple[Arg, ...]) -> tuple[Arg, ...]:
    """Arguments as a key that keeps 1, 1.0 and True apart (and -0.0 from 0.0)."""
    return tuple(
        arg
        if arg is None or isinstance(arg, Ref | str)
        else _typed(arg)
        if isinstance(arg, tuple)
        else f"{type(arg).__name__}:{arg!r}"
        for arg in args
    )


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


def simplify(graph: Graph) -> Graph:
    """The same computation, said shortly."""
    return renumber(prune(apply(graph, SIMPLIFY)))
