"""Random inputs, as tfjs draws them itself.

tfjs draws a tensor of a given shape, which must stand in the Plan, so it cannot follow the batch. What can is
`tf.dropout(x, p)`: u being uniform, it is 0 where u < p and x / (1 - p) elsewhere. With ones for x that is
below p where u is, and at least 1 where u is not: no comparison with p tells it from u.
"""

from collections.abc import Iterator

from fedplan.errors import TranslationError
from fedplan.plan.ir.graph import Graph, Node, Ref
from fedplan.plan.ops import lookup
from fedplan.plan.ops.op import Kind
from fedplan.plan.random import NORMAL
from fedplan.plan.signature import PlanInput
from fedplan.plan.variants.random_inputs import distribution
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Translator, Varying
from fedplan.plan.variants.tfjs.vocabulary.chance import BELOW_ONE

_COMPARISONS = frozenset(f"aten.{name}.Scalar" for name in ("ge", "gt", "le", "lt"))

_PIN = "Pin the batch size with pin_batch=True."


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
    shape, kind = t.shape(Ref(number)), distribution(item)
    if not any(isinstance(extent, Varying) for extent in shape):
        extents = t.written(shape)
        return (
            t.draw("randomNormal", extents)
            if kind == NORMAL
            else t.draw("randomUniform", extents, 0, BELOW_ONE)
        )
    threshold = _threshold(graph, number, kind, item.name)
    if 0 < threshold < 1:
        return t.draw("dropout", t.full(shape, 1.0, "float32"), threshold)
    return t.full(shape, 1.0 if threshold <= 0 else 0.0, "float32")  # each is above it, or below


def _threshold(graph: Graph, number: int, kind: str, name: str) -> float:
    """The one number with which all that reads a random input compares it."""
    found: float | None = None
    for node in _readers(graph, number):
        if node is None or kind == NORMAL or node.op not in _COMPARISONS or isinstance(node.args[1], Ref):
            raise _refusal(
                node, name, f"for each sample of a batch, tfjs draws only masks as dropout has. {_PIN}"
            )
        assert isinstance(node.args[1], int | float)
        if found is not None and found != node.args[1]:
            raise _refusal(node, name, f"tfjs compares those of a batch with one number only. {_PIN}")
        found = node.args[1]
    assert found is not None  # it is read
    return found


def _readers(graph: Graph, number: int) -> Iterator[Node | None]:
    """What reads a value, also under another shape; None stands for the one who gets the outputs."""
    same = {number}
    for node in graph.nodes:
        if same.isdisjoint(node.refs()):
            continue
        if lookup(node.op).kind is Kind.VIEW:
            same.update(node.results)
        else:
            yield node
    if not same.isdisjoint(graph.outputs):
        yield None


def _refusal(node: Node | None, name: str, why: str) -> TranslationError:
    op, source = (name, None) if node is None else (node.op, node.source)
    return TranslationError(op, "tfjs", source=source, why=f"It takes random numbers, and {why}")
