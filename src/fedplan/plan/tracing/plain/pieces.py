"""What an operation of a recording is composed of, found once for all that are called alike."""

import dataclasses
from collections.abc import Hashable
from typing import Any

import torch
from torch import fx
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functionalize
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils import _pytree as pytree

from fedplan.plan.tracing.decompositions import after_autograd


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """A small graph of plain operations.

    Attributes:
        graph: plain operations.
        inputs: its placeholders, for the values of the call in the order of its arguments.
        constants: tensors that it holds, by name.
        results: the nodes that the call returns, in its own structure.
        written: for inputs that the call writes to, by number, the nodes of what they are then.
    """

    graph: fx.Graph
    inputs: list[fx.Node]
    constants: dict[str, torch.Tensor]
    results: Any
    written: dict[int, fx.Node]


class Pieces:
    """The pieces of one recording."""

    def __init__(self, mode: FakeTensorMode) -> None:
        """Starts without any.

        Args:
            mode: the one of the recording: pieces have its sizes.
        """
        self._mode = mode
        self._known: dict[Hashable, Piece] = {}

    def of(self, node: fx.Node) -> Piece:
        """What a call in the recording is composed of. It may write to its arguments."""
        leaves, spec = pytree.tree_flatten((node.args, node.kwargs))
        key = (node.target, spec, *map(_key, leaves))
        if key not in self._known:
            self._known[key] = self._made(node.target, leaves, spec)
        return self._known[key]

    def _made(self, function: Any, leaves: list[Any], spec: Any) -> Piece:
        leaves = [leaf.meta["val"] if _is_number(leaf) else leaf for leaf in leaves]
        places = [place for place, leaf in enumerate(leaves) if isinstance(leaf, fx.Node)]

        def call(*values: Any) -> Any:
            filled = dict(enumerate(leaves)) | dict(zip(places, values, strict=True))
            args, kwargs = pytree.tree_unflatten(filled.values(), spec)
            return function(*args, **kwargs)

        stand_ins = [self._like(leaves[place].meta["val"]) for place in places]
        compose = make_fx(
            functionalize(call),
            decomposition_table=after_autograd(),
            tracing_mode="symbolic",
            _allow_non_fake_inputs=True,
        )
        with self._mode:  # a call of sizes alone would have an environment of sizes of its own
            return _read(compose(*stand_ins))

    def _like(self, value: Any) -> Any:
        """A value of the recording for a call of its own: in memory that it shares with no other."""
        if not isinstance(value, torch.Tensor):
            return value
        with self._mode:
            return torch.empty_strided(tuple(value.shape), value.stride(), dtype=value.dtype)


def given(node: fx.Node) -> list[fx.Node]:
    """The values of the recording that a call is given: in order, and one that is given twice twice."""
    leaves = pytree.tree_leaves((node.args, node.kwargs))
    return [leaf for leaf in leaves if isinstance(leaf, fx.Node) and not _is_number(leaf)]


def _is_number(leaf: Any) -> bool:
    """Whether a value of the recording is a number that is known, such as a size that was fixed."""
    return isinstance(leaf, fx.Node) and isinstance(leaf.meta["val"], bool | int | float)


def _key(leaf: Any) -> Hashable:
    """Equal for arguments with which a call is composed alike."""
    value = leaf.meta["val"] if isinstance(leaf, fx.Node) else leaf
    if isinstance(value, torch.Tensor):
        return ("tensor", value.dtype, *map(str, (*value.shape, "strides", *value.stride())))
    return (type(value), repr(value))


def _read(traced: fx.GraphModule) -> Piece:
    graph = traced.graph
    inputs = [node for node in graph.nodes if node.op == "placeholder"]
    written: dict[int, fx.Node] = {}
    for node in graph.nodes:  # functionalisation writes to what was given at the end
        if node.target is torch.ops.aten.copy_.default and node.args[0] in inputs:
            written[inputs.index(node.args[0])] = node.args[1]
            node.replace_all_uses_with(node.args[1])
            graph.erase_node(node)
    held = {str(node.target) for node in graph.nodes if node.op == "get_attr"}
    output = next(node for node in graph.nodes if node.op == "output")
    constants = {name: getattr(traced, name) for name in held}
    return Piece(graph, inputs, constants, output.args[0], written)
