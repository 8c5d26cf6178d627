"""Putting fast functions in the place of a graph's recurrent operations."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Graph, Node, Ref
from fedplan.plan.recurrence import onednn
from fedplan.plan.recurrence.kernels import FAST, ONEDNN
from fedplan.plan.recurrence.schema import RECURRENCES

_OPERATIONS = {recurrence.operator: recurrence for recurrence in RECURRENCES.values()}
_LSTM, _GRADIENT = RECURRENCES["lstm"], RECURRENCES["lstm_backward"]
_SAVED = ("gates", "cells")


def with_fast_recurrences(graph: Graph, values: Mapping[int, Any], on_cpu: bool) -> Graph:
    """The graph with the functions of `kernels` in the place of recurrent operations.

    oneDNN, where there is one, computes the LSTMs whose saved tensors only their own gradients read.

    Args:
        graph: a verified graph.
        values: every value by its number, on the meta device.
        on_cpu: it will run on a CPU.
    """
    nodes = [node for node in graph.nodes if node.op in _OPERATIONS]
    names = {node.results: FAST[_OPERATIONS[node.op].name].name for node in nodes}
    for node in nodes:
        if node.op == _LSTM.operator and on_cpu and _onednn_has(node, values):
            gradients = _gradients(node, graph)
            if gradients is not None:
                names[node.results] = ONEDNN[_LSTM.name].name
                names |= {gradient.results: ONEDNN[_GRADIENT.name].name for gradient in gradients}
    renamed = (dataclasses.replace(node, op=names.get(node.results, node.op)) for node in graph.nodes)
    return dataclasses.replace(graph, nodes=tuple(renamed))


def _onednn_has(node: Node, values: Mapping[int, Any]) -> bool:
    given = _arguments(node)
    x = given["x"]
    assert isinstance(x, Ref)
    return given["w_hr"] is None and given["lengths"] is None and onednn.can_compute(values[x.id])


def _gradients(node: Node, graph: Graph) -> list[Node] | None:
    """The gradients of an LSTM; None if they are not its own, or something else reads what it saves."""
    given, made = _arguments(node), dict(zip(_LSTM.results, node.results, strict=True))
    saved = {made[name] for name in _SAVED}
    same = {name: given[name] for name in _LSTM.names if name in _GRADIENT.names}
    same |= {name: Ref(made[name]) for name in ("y", *_SAVED)}
    readers = [reader for reader in graph.nodes if saved.intersection(reader.refs())]
    for reader in readers:
        if reader.op != _GRADIENT.operator or sum(number in saved for number in reader.refs()) != len(saved):
            return None
        read = _arguments(reader)
        if any(read[name] != value for name, value in same.items()):
            return None
    return None if saved.intersection(graph.outputs) else readers


def _arguments(node: Node) -> dict[str, Arg]:
    return dict(zip(_OPERATIONS[node.op].names, padded(node), strict=True))
