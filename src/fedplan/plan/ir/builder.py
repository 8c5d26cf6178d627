"""A graph in the making."""

from collections.abc import Sequence

import torch

from fedplan.errors import PlanFormatError
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import DTYPES, dtype_name


class Builder:
    """Collects operations and constants, and gives out the numbers of their values, in order."""

    def __init__(self) -> None:
        self._nodes: list[Node] = []
        self._constants: list[tuple[int, torch.Tensor]] = []
        self._count = 0

    def new(self) -> int:
        """The next value's number."""
        self._count += 1
        return self._count - 1

    def constant(self, tensor: torch.Tensor) -> Ref:
        """A tensor that belongs to the Plan.

        Raises:
            PlanFormatError: a Plan cannot hold its dtype.
        """
        if dtype_name(tensor.dtype) not in DTYPES:
            raise PlanFormatError(
                f"a tensor of the dtype {dtype_name(tensor.dtype)} cannot be part of a Plan; it may be of "
                f"{', '.join(DTYPES)}"
            )
        number = self.new()
        self._constants.append((number, tensor.detach()))
        return Ref(number)

    def emit(
        self, op: str, args: Sequence[Arg], results: int = 1, source: str | None = None
    ) -> tuple[Ref, ...]:
        """Adds an operation, and returns the values that it makes."""
        numbers = tuple(self.new() for _ in range(results))
        self._nodes.append(Node(op, tuple(args), numbers, source))
        return tuple(map(Ref, numbers))

    def inline(self, graph: Graph, given: Sequence[Arg]) -> list[Arg]:
        """Adds another graph, on these values for its inputs, and returns its outputs."""
        values: dict[int, Arg] = dict(zip(graph.inputs, given, strict=True))
        values.update((number, self.constant(tensor)) for number, tensor in graph.constants)
        for node in graph.nodes:
            args = node.replace(values.__getitem__).args
            made = self.emit(node.op, args, len(node.results), node.source)
            values.update(zip(node.results, made, strict=True))
        return [values[number] for number in graph.outputs]

    def graph(self, inputs: Sequence[int], outputs: Sequence[int]) -> Graph:
        """All that was added, as a graph that is not verified yet."""
        return Graph(tuple(inputs), tuple(self._constants), tuple(self._nodes), tuple(outputs))
