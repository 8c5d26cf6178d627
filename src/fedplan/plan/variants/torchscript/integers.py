"""Integers where torch 1.7 takes fractions only: converted before, as newer versions do it inside."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

import torch

from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import dtype_name
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.batches import Values, measured

_OF_FRACTIONS = frozenset(
    f"aten.{name}.default"
    for name in (
        "acos", "acosh", "asin", "asinh", "atan", "atanh", "clamp", "cos", "cosh", "erf", "exp", "expm1",
        "log", "log10", "log1p", "log2", "reciprocal", "rsqrt", "sigmoid", "sin", "sinh", "sqrt", "tan",
        "tanh",
    )
)  # fmt: skip
"""Operations whose result is a fraction when they are given an integer."""

_TO_INTEGERS = frozenset(f"aten.{name}.default" for name in ("ceil", "floor", "round", "trunc"))
"""Operations that leave integers as they are."""


def converted(graph: Graph, inputs: Sequence[PlanInput]) -> Graph:
    """The graph with such operations given fractions. Values keep their numbers; new ones have numbers above.

    A graph whose inputs do not say their shapes and dtypes stays as it is.
    """
    wanted = _OF_FRACTIONS | _TO_INTEGERS
    known = all(item.shape is not None and item.dtype is not None for item in inputs)
    if not known or not any(node.op in wanted for node in graph.nodes):
        return graph
    values, _ = measured(graph, inputs)
    fresh = itertools.count(max(graph.numbers()) + 1)
    return dataclasses.replace(
        graph, nodes=tuple(made for node in graph.nodes for made in _converted(node, values, fresh))
    )


def _converted(node: Node, values: Values, fresh: Iterator[int]) -> Iterator[Node]:
    value = node.args[0] if node.args else None
    if isinstance(value, Ref) and node.op in _OF_FRACTIONS | _TO_INTEGERS:
        given, made = values[value.id], values[node.results[0]]
        if not given.is_floating_point() and node.op in _TO_INTEGERS:
            node = _cast(value, made, node.results[0], node.source)
        elif not given.is_floating_point() and made.is_floating_point():
            number = next(fresh)
            yield _cast(value, made, number, node.source)
            node = dataclasses.replace(node, args=(Ref(number), *node.args[1:]))
    yield node


def _cast(value: Ref, like: torch.Tensor, result: int, source: str | None) -> Node:
    return Node("aten._to_copy.default", (value, dtype_name(like.dtype)), (result,), source)
