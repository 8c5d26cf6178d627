"""A recording taken apart: each operation that is not plain is put together of pieces.

Most operations of a recording are plain already and stay as they are.
"""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import fx
from torch._ops import HigherOrderOperator, OpOverload
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils import _pytree as pytree

from fedplan.plan.tracing import source
from fedplan.plan.tracing.chance import WITHOUT_DRAW
from fedplan.plan.tracing.decompositions import after_autograd
from fedplan.plan.tracing.draws import Answer
from fedplan.plan.tracing.plain.pieces import Piece, Pieces, given
from fedplan.plan.tracing.plain.writes import Memory, Writes

SAME = frozenset({torch.ops.aten.alias.default, torch.ops.aten.detach.default})
"""Operations whose result is their argument where nothing asks for gradients."""


class Apart:
    """A recording that is taken apart. It knows where in the author's code it is."""

    def __init__(self, module: fx.GraphModule, constants: Sequence[torch.Tensor]) -> None:
        """Takes a recording.

        Args:
            module: the recording.
            constants: what it had for its last inputs, the tensors that the function itself holds.
        """
        self._nodes = list(module.graph.nodes)
        inputs = [node for node in self._nodes if node.op == "placeholder"]
        for node, constant in zip(inputs[len(inputs) - len(constants) :], constants, strict=True):
            node.meta["val"] = constant
        self._place: str | None = None

    def place(self) -> str | None:
        """Where in the author's code it is."""
        return self._place

    def place_of(self, error: BaseException) -> str | None:
        """Where in the author's code an error came from."""
        return self._place or source.of_exception(error)

    def plain(self, mode: FakeTensorMode) -> fx.GraphModule | None:
        """The recording in plain operations.

        Args:
            mode: the one in which it was recorded.

        Returns:
            None for a recording that cannot be taken apart: it has complex numbers, operations with functions
            as arguments, or reads views of what was written in place.
        """
        if not all(map(_stands_alone, self._nodes)):
            return None
        pieces = self._pieces(Pieces(mode))
        writes = Writes(self._nodes, {node: _targets(node, piece) for node, piece in pieces.items()})
        return _Writer(pieces, writes).module(self._nodes) if writes.can_be_followed() else None

    def _pieces(self, known: Pieces) -> dict[fx.Node, Piece]:
        found = {}
        for node in filter(_is_composed, self._nodes):
            self._place = node.stack_trace
            found[node] = known.of(node)
        self._place = None
        return found


def _stands_alone(node: fx.Node) -> bool:
    values = pytree.tree_leaves(node.meta.get("val"))
    if any(isinstance(value, torch.Tensor) and value.is_complex() for value in values):
        return False
    return not isinstance(node.target, HigherOrderOperator)


def _is_composed(node: fx.Node) -> bool:
    """Whether an operation is not plain."""
    if node.op != "call_function" or node.target in SAME:
        return False
    if not isinstance(node.target, OpOverload):
        return isinstance(node.target, Answer) or node.target in WITHOUT_DRAW.values()
    makes_tensors = any(isinstance(v, torch.Tensor) for v in pytree.tree_leaves(node.meta.get("val")))
    return node.target._schema.is_mutable or (makes_tensors and node.target in after_autograd())


def _targets(node: fx.Node, piece: Piece) -> list[fx.Node]:
    """The tensors that a call writes to."""
    values = given(node)
    return [values[number] for number in piece.written]


class _Writer:
    """The new graph. What is read of a memory that is written is its last value."""

    def __init__(self, pieces: Mapping[fx.Node, Piece], writes: Writes) -> None:
        self._pieces = pieces
        self._writes = writes
        self._graph = fx.Graph()
        self._held: dict[str, torch.Tensor] = {}
        self._values: dict[fx.Node, Any] = {}
        self._last: dict[Memory, Any] = {}

    def module(self, nodes: Sequence[fx.Node]) -> fx.GraphModule:
        for node in nodes:
            if node.op == "output":
                self._write_back(nodes)
            self._values[node] = self._value(node)
            memory = self._writes.followed(node)
            if memory is not None:
                self._last.setdefault(memory, self._values[node])
        return fx.GraphModule(self._held, self._graph)

    def _value(self, node: fx.Node) -> Any:
        if node in self._pieces:
            return self._inlined(node, self._pieces[node])
        first = node.args[0] if node.args else None
        if isinstance(first, fx.Node):
            if node.target in SAME:
                return self._read(first)
            if node.target is operator.getitem and first in self._pieces:
                return self._values[first][node.args[1]]
        return self._graph.node_copy(node, self._read)

    def _read(self, node: fx.Node) -> Any:
        memory = self._writes.followed(node)
        return self._values[node] if memory is None else self._last[memory]

    def _inlined(self, node: fx.Node, piece: Piece) -> Any:
        """Puts a piece in the place of a call. Returns what the call returns."""
        values = dict(zip(piece.inputs, map(self._read, given(node)), strict=True))
        for inner in piece.graph.nodes:
            if inner.op == "get_attr":
                values[inner] = self._constant(piece.constants[str(inner.target)])
            elif inner.op == "call_function":
                values[inner] = copy = self._graph.node_copy(inner, values.__getitem__)
                copy.stack_trace = node.stack_trace
        for number, now in piece.written.items():
            memory = self._writes.followed(given(node)[number])
            assert memory is not None  # what is written can be followed
            self._last[memory] = values[now]
        return fx.map_arg(piece.results, values.__getitem__)

    def _constant(self, tensor: torch.Tensor) -> fx.Node:
        name = f"constant{len(self._held)}"
        self._held[name] = tensor
        return self._graph.get_attr(name)

    def _write_back(self, nodes: Sequence[fx.Node]) -> None:
        """Says at the end which inputs were written, as functionalisation does."""
        for node in nodes:
            if node.op == "placeholder" and self._writes.followed(node) is not None:
                copied = (self._values[node], self._read(node))
                self._graph.call_function(torch.ops.aten.copy_.default, copied)
