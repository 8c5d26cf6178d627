"""From PyTorch's recorded graph to the Plan's own: names of the op table, plain arguments, value numbers."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch.fx.experimental.symbolic_shapes import free_unbacked_symbols

from fedplan.errors import TraceError, UnsupportedOpError
from fedplan.plan.ir.arguments import normal, trim
from fedplan.plan.ir.builder import Builder
from fedplan.plan.ir.graph import Arg, Graph, Ref
from fedplan.plan.ir.rewrite import simplify
from fedplan.plan.ir.verify import verify
from fedplan.plan.ops import OPS, Kind, lookup
from fedplan.plan.ops.refused import DEPENDS_ON_VALUES
from fedplan.plan.tracing import ways_out
from fedplan.plan.tracing.notes import READ
from fedplan.plan.tracing.refused import REFUSED
from fedplan.plan.tracing.subgraphs import SUBGRAPH, Subgraph

SIZES: Mapping[Any, str] = {
    operator.add: "sym.add",
    operator.sub: "sym.sub",
    operator.mul: "sym.mul",
    operator.floordiv: "sym.floordiv",
    operator.mod: "sym.mod",
    operator.truediv: "sym.truediv",
    operator.neg: "sym.neg",
    torch.sym_max: "sym.max",
    torch.sym_min: "sym.min",
    torch.sym_float: "sym.float",
}
"""Arithmetic on sizes, as the tracer records it, by its name in the op table."""

_NAMESPACES = frozenset(("aten", "fedplan"))
"""Whose operators a Plan may hold, as far as the op table has them."""

# Values are never changed in place, so a copy is the value itself.
_IDENTITIES = frozenset({"alias", "clone", "detach", "lift", "lift_fresh", "lift_fresh_copy", "contiguous"})

# The same operation under the name of the table.
_RENAMED = {alias: op.name for op in OPS.values() for alias in op.traced_as}

_RESHAPES = {"aten.reshape.default"} | {
    name for name, row in _RENAMED.items() if row == "aten.reshape.default"
}

# Uninitialised memory is zeros here: a Plan has no value that depends on what memory held before.
_UNINITIALISED = frozenset({"empty", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"})


def lower(module: fx.GraphModule, constants: Sequence[torch.Tensor]) -> Graph:
    """The Plan's graph of a functional ATen graph.

    Args:
        module: the recorded graph.
        constants: the values of its last inputs, which become the Plan's own.

    Raises:
        UnsupportedOpError: an operation is not in the table; says where in the author's code it is.
        TraceError: an output is not a tensor.
    """
    return _Lowering(module).graph(constants)


class _Lowering:
    def __init__(self, module: fx.GraphModule) -> None:
        self.module = module
        self.values: dict[fx.Node, Any] = {}  # an Arg, or the list of Args of an operation with many results
        self.inputs: list[int] = []
        self.builder = Builder()
        self.dtypes: dict[int, torch.dtype] = {}

    def graph(self, constants: Sequence[torch.Tensor]) -> Graph:
        outputs: tuple[int, ...] = ()
        placeholders = [node for node in self.module.graph.nodes if node.op == "placeholder"]
        own = dict(zip(placeholders[len(placeholders) - len(constants) :], constants, strict=True))
        needed = _needed(self.module.graph)
        for node in self.module.graph.nodes:
            if node not in needed and node.op != "placeholder":
                continue
            if node in own:
                self.values[node] = self.builder.constant(_kept(own[node]))
            elif node.op == "placeholder":
                self.inputs.append(self.builder.new())
                self.values[node] = Ref(self.inputs[-1])
            elif node.op == "get_attr":
                self.values[node] = self.builder.constant(_kept(getattr(self.module, node.target)))
            elif node.op == "call_function":
                self.values[node] = self.call(node)
            elif node.op == "output":
                outputs = tuple(self.output(arg) for arg in node.args[0])
        # Equal operations become one first: what checks a pool's numbers is found by them
        graph = simplify(self.builder.graph(self.inputs, outputs), self.dtypes)
        verify(graph)
        return graph

    def output(self, arg: Any) -> int:
        value = self.arg(arg)
        if not isinstance(value, Ref):
            raise TraceError(
                f"the function returns {value!r}; a Plan returns tensors: torch.tensor({value!r})"
            )
        return value.id

    def arg(self, value: Any) -> Arg:
        """A recorded argument: values by reference, sizes that are known as numbers."""
        if isinstance(value, fx.Node):
            found = self.values[value]
            return found if not isinstance(found, list) else tuple(found)
        if isinstance(value, list | tuple):
            return tuple(map(self.arg, value))
        return normal(value)

    def call(self, node: fx.Node) -> Any:
        if node.target is operator.getitem:
            made, index = node.args
            return self.values[made][index]  # type: ignore[index]  # an operation with many results
        where = node.stack_trace or None
        if node.target is READ:
            raise TraceError(ways_out.of_read(where))
        if free_unbacked_symbols(node.meta.get("val")):
            raise UnsupportedOpError(str(node.target), source=where, instead=DEPENDS_ON_VALUES)
        if node.target in SIZES:
            return self.emit(SIZES[node.target], tuple(map(self.arg, node.args)), where)
        if node.target is SUBGRAPH:
            given, number = map(self.arg, node.args)
            return self.builder.inline(Subgraph.of(number).graph, given)  # type: ignore[arg-type]
        if node.target is REFUSED:
            _, op, instead = node.args
            raise UnsupportedOpError(str(op), source=where, instead=str(instead))
        is_operator = isinstance(node.target, torch._ops.OpOverload)
        if not is_operator and isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat):
            raise TraceError(ways_out.of_size(node.target, where))
        if not isinstance(node.target, torch._ops.OpOverload) or node.target.namespace not in _NAMESPACES:
            raise UnsupportedOpError(str(node.target), source=where)
        return self.operator(node, node.target, where)

    def operator(self, node: fx.Node, target: "torch._ops.OpOverload", where: str | None) -> Any:
        name = str(target)  # "aten.add.Tensor"
        packet = name.split(".")[1]
        if packet in _IDENTITIES:
            return self.arg(node.args[0])
        if packet == "copy":
            return self.cast(node, where)
        if packet in _UNINITIALISED:
            made = node.meta["val"]
            return self.emit("aten.full.default", (self.shape(node), 0, normal(made.dtype)), where)
        if name == "aten._to_copy.default" and "dtype" not in node.kwargs:
            return self.arg(node.args[0])
        name = _RENAMED.get(name, name)
        if name == "aten.reshape.default":
            before = _before_reshapes(node)
            if before is not None:
                return self.arg(before)
        return self.emit(name, self.arguments(name, node, where), where, node.meta.get("val"))

    def shape(self, node: fx.Node) -> Arg:
        """The sizes that an `empty` was asked for: its first list of numbers."""
        sizes = next(arg for arg in node.args if isinstance(arg, list | tuple))
        return self.arg(sizes)

    def cast(self, node: fx.Node, where: str | None) -> Any:
        """`copy(self, src)`: src with the shape and dtype of self."""
        into, value = (argument.meta["val"] for argument in node.args)  # type: ignore[union-attr]
        result = self.arg(node.args[1])
        if _extents(node.args[0]) != _extents(node.args[1]):
            result = self.emit("aten.expand.default", (result, self.extents(node.args[0], where)), where)
        if into.dtype != value.dtype:
            result = self.emit("aten._to_copy.default", (result, normal(into.dtype)), where)
        return result

    def extents(self, node: Any, where: str | None) -> Arg:
        """A tensor's shape; extents that are not known are read from it when the Plan runs."""
        return tuple(
            extent
            if isinstance(extent, int)
            else self.emit("aten.sym_size.int", (self.arg(node), dim), where)
            for dim, extent in enumerate(node.meta["val"].shape)
        )

    def arguments(self, name: str, node: fx.Node, where: str | None) -> tuple[Arg, ...]:
        """The arguments in schema order, without the trailing ones that say what is the default anyway."""
        given: list[Arg] = []
        positional = list(node.args)
        for argument in lookup(name, where).arguments:
            if positional and not argument.keyword:
                value = self.arg(positional.pop(0))
            elif argument.name in node.kwargs:
                value = self.arg(node.kwargs[argument.name])
            else:
                value = normal(argument.default)
            given.append((value,) if "List[int]" in argument.type and isinstance(value, int) else value)
        return trim(lookup(name).arguments, given)

    def emit(self, name: str, args: tuple[Arg, ...], where: str | None, made: Any = None) -> Any:
        kind = lookup(name, where).kind
        count = len(made) if isinstance(made, Sequence) else 1
        results = self.builder.emit(name, args, count, where)
        for result, value in zip(results, made if isinstance(made, Sequence) else [made], strict=False):
            if isinstance(value, torch.Tensor):
                self.dtypes[result.id] = value.dtype
        if kind is Kind.SIZE or not isinstance(made, Sequence):
            return results[0]
        return list(results)


def _extents(node: Any) -> list[str]:
    """A tensor's extents, as expressions: sizes that are equal for one batch may differ for another."""
    return [str(extent) for extent in node.meta["val"].shape]


def _before_reshapes(node: fx.Node) -> fx.Node | None:
    """The tensor that this reshape gives back as it was before others reshaped it."""
    source = node.args[0]
    while isinstance(source, fx.Node):
        if _extents(source) == _extents(node):
            return source
        if str(source.target) not in _RESHAPES:
            return None
        source = source.args[0]
    return None


def _needed(graph: fx.Graph) -> set[fx.Node]:
    """The nodes that the outputs need: neither assertions nor writes to inputs, which stay as they are."""
    found: set[fx.Node] = set()
    waiting = [node for node in graph.nodes if node.op == "output"]
    while waiting:
        node = waiting.pop()
        if node not in found:
            found.add(node)
            waiting += node.all_input_nodes
    return found


def _kept(tensor: torch.Tensor) -> torch.Tensor:
    """A tensor that the function holds, in memory of the Plan's own."""
    return tensor.detach().clone().contiguous()
