"""From the graph of one client to the graph of many, side by side on a leading axis.

A value is *apart* when each client has its own: its first axis counts the clients. All others are shared, and
operations on shared values stay as they are. What an operation becomes is said by a rule
(`fedplan.plan.clients.rules`), which adds operations to the new graph.

No rule learns how many clients there are. It says -1 or `Lifting.count` for them, so the graph that is made
serves any number.
"""

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch

from fedplan.errors import PlanExecutionError
from fedplan.plan.ir.arguments import bind, padded
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.ops import row
from fedplan.plan.ops.clients import vmap_name
from fedplan.plan.ops.executor import SIDE_BY_SIDE
from fedplan.plan.run.interpreter import KERNEL_ERRORS, describe, fetch

STAND_IN = 97
"""The number of clients in the shapes that the new graph is checked with: a prime that few models have."""

_META = torch.device("meta")


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    """A tensor of the new graph.

    Attributes:
        ref: its number.
        meta: its shape and dtype, for `STAND_IN` clients where it is apart.
        apart: whether its first axis counts the clients.
    """

    ref: Ref
    meta: torch.Tensor
    apart: bool

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one client's part."""
        return tuple(self.meta.shape[1:] if self.apart else self.meta.shape)

    @property
    def rank(self) -> int:
        """Dimensions of one client's part."""
        return len(self.shape)


Made = Value | Sequence[Value | None]
"""What an operation makes: one value, or several, None for those that it leaves out."""

Rule = Callable[..., Made]
"""Called with a `Lifting` and all arguments of an operation, tensors as `Value`; at least one is apart."""


class Lifting:
    """The new graph while it is made.

    Attributes:
        op: the operation that a rule is called for.
        expected: what that makes for one client, on the meta device; None for what it leaves out.
    """

    def __init__(self, fresh: int) -> None:
        self.nodes: list[Node] = []
        self.values: dict[int, Any] = {}
        self.op = ""
        self.expected: Sequence[Any] = ()
        self._source: str | None = None
        self._fresh = fresh
        self._multiples: dict[int, Ref] = {}
        self._counted: Ref | None = None

    # Adding operations

    def begin(self, node: Node, expected: Sequence[Any]) -> None:
        """The operations that are added now are in the place of this one."""
        self.op, self._source, self.expected = node.op, node.source, expected

    def define(self, number: int, meta: torch.Tensor, apart: bool) -> Value:
        """A value that exists before the first operation; of the first that is apart clients are counted."""
        if apart:
            meta = meta.new_empty((STAND_IN, *meta.shape))
            self._counted = self._counted or Ref(number)
        self.values[number] = meta
        return Value(Ref(number), meta, apart)

    def emit_all(
        self, op: str, *args: Any, apart: bool = True, made: Sequence[Any] | None = None
    ) -> list[Value | None]:
        """Adds an operation.

        Args:
            op: its name in the op table.
            args: its arguments, tensors as `Value`.
            apart: whether the first axis of its results counts the clients.
            made: what it makes, where its form without data does not tell that.
        """
        node = Node(op, tuple(map(_plain, args)), (), self._source)
        if made is None:
            positional, keywords = bind(node, _META)
            kinds = (argument.type for argument in row(op).arguments)
            given = [
                _as_tensor(fetch(arg, self.values)) if kind == "Tensor" else fetch(arg, self.values)
                for kind, arg in zip(kinds, positional, strict=False)
            ]
            options = {name: fetch(arg, self.values) for name, arg in keywords.items()}
            results = row(op).call(*given, **options)
            made = results if isinstance(results, tuple | list) else (results,)
        numbers = range(self._fresh, self._fresh + len(made))
        self._fresh += len(made)
        self.values.update(zip(numbers, made, strict=True))
        self.nodes.append(dataclasses.replace(node, results=tuple(numbers)))
        return [
            None if meta is None else Value(Ref(number), meta, apart)
            for number, meta in zip(numbers, made, strict=True)
        ]

    def emit(self, op: str, *args: Any, apart: bool = True) -> Value:
        """Adds an operation with one result."""
        (value,) = self.emit_all(op, *args, apart=apart)
        assert value is not None
        return value

    def aten(self, op: str, *args: Any, apart: bool = True) -> Value:
        """Adds ``aten.<op>``, which has one result."""
        return self.emit(f"aten.{op}", *args, apart=apart)

    def again(self, *args: Any) -> list[Value | None]:
        """Adds the operation that the rule is called for, with other arguments."""
        return self.emit_all(self.op, *args)

    def by_vmap(self, *args: Any) -> list[Value | None]:
        """Adds the operation that the rule is called for, under `torch.func.vmap`."""
        made = [meta if meta is None else meta.new_empty((STAND_IN, *meta.shape)) for meta in self.expected]
        return self.emit_all(vmap_name(self.op), *map(self._everywhere, args), made=made)

    def _everywhere(self, arg: Any) -> Any:
        if isinstance(arg, Value):
            return self.whole(arg)
        return tuple(map(self._everywhere, arg)) if isinstance(arg, tuple) else arg

    # The number of clients

    @property
    def count(self) -> Ref:
        """How many clients there are."""
        return self.times(1)

    def times(self, number: int) -> Ref:
        """So many for each client."""
        if number not in self._multiples:
            assert self._counted is not None
            op, args = ("sym.mul", (self.times(1), number)) if number != 1 else (_SIZE, (self._counted, 0))
            self.values[self._fresh] = STAND_IN * number
            self.nodes.append(Node(op, args, (self._fresh,)))
            self._multiples[number] = Ref(self._fresh)
            self._fresh += 1
        return self._multiples[number]

    def extent(self, number: int, others: Sequence[int]) -> int | Ref:
        """So many for each client, as the one extent of a shape that is left open."""
        return -1 if math.prod(others) and number else self.times(number)

    # Values under other shapes

    def whole(self, value: Value) -> Value:
        """A value that each client has; a shared one is repeated, without a copy."""
        if value.apart:
            return value
        return self.aten("expand.default", value, (self.count, *value.shape))

    def solid(self, value: Value) -> Value:
        """A value that each client has, with all elements in memory and in order, as some kernels suppose."""
        return self.emit(SIDE_BY_SIDE, self.whole(value))

    def shaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Each client's part in another shape of as many elements."""
        if value.shape == tuple(shape):
            return value
        if not value.apart:
            return self.aten("reshape.default", value, shape, apart=False)
        return self.aten("reshape.default", value, (self.extent(1, shape), *shape))

    def aligned(self, value: Value, rank: int) -> Value:
        """Each client's part with ones before its shape, as broadcasting supposes them."""
        missing = rank - value.rank
        return self.shaped(value, (*(1,) * missing, *value.shape)) if value.apart and missing else value

    def permuted(self, value: Value, dims: Sequence[int]) -> Value:
        """The dimensions of each client's part in another order."""
        order = (0, *(dim + 1 for dim in dims)) if value.apart else tuple(dims)
        return self.aten("permute.default", value, order, apart=value.apart)

    def by_rows(self, value: Value) -> Value:
        """(clients, n, …) as (clients · n, …): the clients one below the other."""
        n, *rest = value.shape
        return self.aten("reshape.default", self.whole(value), (self.extent(n, rest), *rest), apart=False)

    def from_rows(self, value: Value, n: int) -> Value:
        """(clients · n, …) as (clients, n, …)."""
        shape = (n, *value.shape[1:])
        return self.aten("reshape.default", value, (self.extent(1, shape), *shape))

    def by_channels(self, value: Value) -> Value:
        """(clients, n, c, …) as (n, clients · c, …): each client has its channels."""
        n, c, *rest = value.shape
        turned = self.aten("permute.default", self.whole(value), _exchanged(value.rank), apart=False)
        return self.aten("reshape.default", turned, (n, self.extent(c, (n, *rest)), *rest), apart=False)

    def from_channels(self, value: Value, c: int) -> Value:
        """(n, clients · c, …) as (clients, n, c, …)."""
        n, _, *rest = value.shape
        shape = (n, self.extent(1, (n, c, *rest)), c, *rest)
        split = self.aten("reshape.default", value, shape, apart=False)
        return self.aten("permute.default", split, _exchanged(value.rank))

    def without_elements(self, value: Value, meta: torch.Tensor) -> Value:
        """A result that holds nothing, the same for all clients, whatever its form without data says."""
        self.values[value.ref.id] = meta
        return Value(value.ref, meta, apart=False)

    def fitting(self, values: Sequence[Value | None]) -> list[Value | None]:
        """Results in the shapes that one client's have."""
        return [
            value if value is None else self.shaped(value, tuple(meta.shape))
            for value, meta in zip(values, self.expected, strict=True)
        ]


def _as_tensor(arg: Any) -> Any:
    """A number where an operation takes a tensor, as the compiler makes it one."""
    return torch.tensor(arg, device=_META) if isinstance(arg, int | float) else arg


_SIZE = "aten.sym_size.int"


def _exchanged(rank: int) -> tuple[int, ...]:
    """Exchanges the clients and what comes next, in a tensor of one dimension more."""
    return (1, 0, *range(2, rank + 1))


def _plain(arg: Any) -> Arg:
    if isinstance(arg, Value):
        return arg.ref
    if isinstance(arg, list | tuple) and not isinstance(arg, Ref):
        return tuple(map(_plain, arg))
    plain: Arg = arg
    return plain


def lift(
    graph: Graph, values: Mapping[int, Any], apart: Collection[int], rule: Callable[[str], Rule]
) -> tuple[Graph, dict[int, Any]]:
    """The graph for many clients.

    Args:
        graph: of one client, with sizes as numbers.
        values: every value of it by its number, on the meta device.
        apart: numbers of the inputs that each client has its own of; at least one.
        rule: gives the rule of an operation by its name.

    Returns:
        The graph, in which those inputs and all outputs have a first axis of clients, and its values for
        `STAND_IN` clients.

    Raises:
        PlanExecutionError: an operation cannot be computed for many clients at once.
    """
    lifting = Lifting(max(graph.numbers(), default=0) + 1)
    known: dict[int, Value | None] = {
        number: lifting.define(number, values[number], number in apart) for number in graph.inputs
    }
    known |= {number: lifting.define(number, values[number], False) for number, _ in graph.constants}
    for node in graph.nodes:
        made = _lifted(lifting, node, known, [values[number] for number in node.results], rule)
        known.update(zip(node.results, made, strict=True))
    outputs = []
    for number in graph.outputs:
        value = known[number]
        assert value is not None
        outputs.append(lifting.whole(value).ref.id)
    return Graph(graph.inputs, graph.constants, tuple(lifting.nodes), tuple(outputs)), lifting.values


def _lifted(
    lifting: Lifting,
    node: Node,
    known: Mapping[int, Value | None],
    expected: Sequence[Any],
    rule: Callable[[str], Rule],
) -> Sequence[Value | None]:
    def operand(arg: Arg) -> Any:
        if isinstance(arg, Ref):
            return known[arg.id]
        return tuple(map(operand, arg)) if isinstance(arg, tuple) else arg

    lifting.begin(node, expected)
    if not any(value.apart for value in map(known.__getitem__, node.refs()) if value is not None):
        return lifting.emit_all(node.op, *map(operand, node.args), apart=False, made=expected)
    try:
        found = rule(node.op)(lifting, *map(operand, padded(node)))
    except KERNEL_ERRORS as error:
        raise PlanExecutionError(f"{_refused(node)}: {error}") from error
    made = [found] if isinstance(found, Value) else list(found)
    for value, meta in zip(made, expected, strict=True):
        if (value is None) != (meta is None) or (value is not None and _form(value) != _form_of(meta)):
            raise PlanExecutionError(
                f"{_refused(node)}: it would make {value and _form(value)} in the place of "
                f"{meta is not None and _form_of(meta)}"
            )
    return made


def _form(value: Value) -> tuple[Any, ...]:
    return value.shape, value.meta.dtype


def _form_of(meta: torch.Tensor) -> tuple[Any, ...]:
    return tuple(meta.shape), meta.dtype


def _refused(node: Node) -> str:
    return f"{describe(node)} cannot be computed for many clients side by side (compute one after the other)"
