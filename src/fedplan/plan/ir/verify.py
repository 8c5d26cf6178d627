"""Whether a graph is well formed."""

from collections.abc import Iterator

from fedplan.errors import PlanFormatError
from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import OPS, lookup
from fedplan.plan.ops.guards import Witness


def verify(graph: Graph) -> None:
    """Checks that a graph is well formed: known operations, values written once and before they are read.

    Raises:
        UnsupportedOpError: an operation is not in the table.
        PlanFormatError: anything else is wrong; the message names the operation.
    """
    known: set[int] = set()

    def define(number: int, what: str) -> None:
        if number in known:
            raise PlanFormatError(f"{what} writes the value %{number}, which exists already")
        known.add(number)

    for number in (*graph.inputs, *(number for number, _ in graph.constants)):
        define(number, "an input or constant")
    vouched: set[tuple[object, ...]] = set()
    for node in graph.nodes:
        row = lookup(node.op, node.source)
        for number in node.refs():
            if number not in known:
                raise PlanFormatError(f"'{node}' reads the value %{number} before it exists")
        if row.witness is not None and _needed_testimony(node, row.witness) not in vouched:
            raise PlanFormatError(
                f"'{node}' may only follow the '{row.witness.forward}' that checks its indices"
            )
        if node.op in _WITNESSED:
            vouched.update(_testimonies(node))
        for number in node.results:
            define(number, f"'{node}'")
    for number in graph.outputs:
        if number not in known:
            raise PlanFormatError(f"the output %{number} is not the value of any operation")


_WITNESSED = {
    forward: [op for op in OPS.values() if op.witness is not None and op.witness.forward == forward]
    for forward in {op.witness.forward for op in OPS.values() if op.witness is not None}
}
"""By the name of an operation that checks what others trust: those others."""


def _testimonies(node: Node) -> Iterator[tuple[object, ...]]:
    """What a forward operation vouches for, as a key for each operation that needs it."""
    given = padded(node)
    for op in _WITNESSED[node.op]:
        witness = op.witness
        if witness is not None and len(node.results) > witness.result[1]:
            same = (given[there] for _, there in witness.same)
            yield (op.name, *same, Ref(node.results[witness.result[1]]))


def _needed_testimony(node: Node, witness: Witness) -> tuple[object, ...]:
    given = padded(node)
    return (node.op, *(given[here] for here, _ in witness.same), given[witness.result[0]])
