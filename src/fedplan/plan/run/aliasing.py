"""Whose memory a value stands in, and so which values an executor may write over."""

from collections.abc import Collection, Mapping
from typing import Any

from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import Kind, Trait, row

_REPEATING = ("aten.expand.default", "aten.expand_as.default", "aten.unfold.default")
"""Views in which an element may stand in several places."""


def looked_at(graph: Graph) -> dict[int, int]:
    """For each view, whether it copies or not, the number of the tensor that it looks at."""
    into: dict[int, int] = {}
    for node in graph.nodes:
        if row(node.op).kind is Kind.VIEW:
            viewed = next(node.refs())
            into.update(dict.fromkeys(node.results, into.get(viewed, viewed)))
    return into


class Aliasing:
    """Values that may share memory form a group: a tensor and all views of it, whether they copy or not."""

    def __init__(self, graph: Graph, values: Mapping[int, Any], given_up: Collection[int] = ()) -> None:
        """Reads a graph.

        Args:
            graph: what will run.
            values: every value by its number: a meta tensor, or a size.
            given_up: inputs that belong to the executor: contiguous tensors, each with memory of its own.
        """
        self._values = values
        self._group = looked_at(graph)
        self._repeats = {self.group(next(n.refs())) for n in graph.nodes if n.op in _REPEATING}
        self._last: dict[int, int] = {}
        for position, node in enumerate(graph.nodes):
            self._last.update((self.group(number), position) for number in (*node.refs(), *node.results))
        self._given_up = set(given_up)
        self._foreign = {self.group(number) for number in graph.defined() - self._given_up}
        self._returned = [self.group(number) for number in graph.outputs]
        checks = [p for p, node in enumerate(graph.nodes) if row(node.op).checks_values]
        self._safe = max(checks, default=-1)

    def group(self, number: int) -> int:
        """The group of a value: the number of the tensor that its views look at."""
        return self._group.get(number, number)

    def may_overwrite(self, node: Node, position: int) -> bool:
        """Whether an operation may write its result over its first argument: nobody reads that any more.

        What the caller gave up is written over only when no later operation can fail because of its data, so
        that a run that fails leaves it as it was.
        """
        first = node.args[0] if node.args else None
        if not isinstance(first, Ref) or Trait.IN_PLACE not in row(node.op).traits:
            return False
        group = self.group(first.id)
        if group in self._given_up and position < self._safe:
            return False
        if first.id != group and group in {*self._given_up, *self._repeats}:
            return False
        alone = [self.group(number) for number in node.refs()].count(group) == 1
        if not alone or group in self._foreign or group in self._returned or self._last[group] > position:
            return False
        # a view of some elements has other strides than a result in memory of its own
        before, after = self._values[first.id], self._values[node.results[0]]
        return bool(
            before.shape == after.shape and before.dtype == after.dtype and before.stride() == after.stride()
        )

    def is_own(self, number: int) -> bool:
        """Whether an output has memory that no other output, and nobody outside, looks at."""
        group = self.group(number)
        return group not in self._foreign and self._returned.count(group) == 1
