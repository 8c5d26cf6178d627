"""Random inputs, as tfjs draws them itself.

tfjs draws a tensor of a given shape, which must stand in the Plan, so it cannot follow the batch. What can is
`tf.dropout(x, p)`: for a uniform u, it is 0 where u < p and x / (1 - p) elsewhere. With ones for x its result
is less than p where u is, and at least 1 elsewhere. So it can stand for u where u is only compared with p.
"""

import math
from collections.abc import Iterator

import torch

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import lookup
from fedplan.plan.ops.op import Kind
from fedplan.plan.random import UNIFORM
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.random_inputs import distribution
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Translator, Varying
from fedplan.plan.variants.tfjs.vocabulary.chance import BELOW_ONE

_FROM, _ABOVE = ("aten.ge.Scalar", "aten.lt.Scalar"), ("aten.gt.Scalar", "aten.le.Scalar")
"""Comparisons that part uniform numbers from a number on, and above it."""

_STEP = 2.0**-24
"""From one uniform number to the next."""

_WHY = (
    "It takes random numbers, for each sample of the batch. For a batch of any size tfjs draws masks, and "
    "nothing else: compare them with one number only, as dropout does, or pin the batch size with "
    "pin_batch=True."
)


def drawn(t: Translator, graph: Graph, number: int, item: PlanInput) -> Term:
    """A term that stands for a random input.

    Args:
        t: the translation.
        graph: what is translated.
        number: of the input's value.
        item: the input.

    Raises:
        TranslationError: its shape depends on the batch size, and it is no mask; names who reads it.
        PlanFormatError: there is no such distribution.
    """
    shape = t.shape(Ref(number))
    if not any(isinstance(extent, Varying) for extent in shape):
        extents = t.written(shape)
        if distribution(item) == UNIFORM:
            return t.draw("randomUniform", extents, 0, BELOW_ONE)
        return t.draw("randomNormal", extents)
    threshold = _threshold(graph, number, item)
    if 0 < threshold < 1:
        return t.draw("dropout", t.full(shape, 1.0, "float32"), threshold)
    return t.full(shape, 1.0 if threshold <= 0 else 0.0, "float32")  # each is above it, or below


def _threshold(graph: Graph, number: int, item: PlanInput) -> float:
    """The one number with which all that reads a random input compares it; zero if only its size is read."""
    found: float | None = None
    for node in _readers(graph, number):
        limit = _limit(node) if distribution(item) == UNIFORM else None
        if limit is None or found not in {None, limit}:
            op, source = (item.name, None) if node is None else (node.op, node.source)
            raise TranslationError(op, "tfjs", source=source, why=_WHY)
        found = limit
    return 0.0 if found is None else found


def _limit(node: Node | None) -> float | None:
    """The least of the uniform numbers that are not below, for an operation that compares with a number."""
    if node is None or node.op not in (*_FROM, *_ABOVE) or not isinstance(node.args[1], int | float):
        return None
    number = float(torch.tensor(node.args[1], dtype=torch.float32))
    if not math.isfinite(number):
        return None
    return number if node.op in _FROM else (math.floor(number / _STEP) + 1) * _STEP


def _readers(graph: Graph, number: int) -> Iterator[Node | None]:
    """What reads a value's elements, also under another shape; None stands for who gets the outputs."""
    same = {number}
    for node in graph.nodes:
        if same.isdisjoint(node.refs()):
            continue
        kind = lookup(node.op).kind
        if kind is Kind.VIEW:
            same.update(node.results)
        elif kind is not Kind.SIZE:
            yield node
    if not same.isdisjoint(graph.outputs):
        yield None
