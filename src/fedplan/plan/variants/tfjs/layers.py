"""Rules for matrix products, embeddings and the log-likelihood loss."""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.gathering import hot_rows
from fedplan.plan.variants.tfjs.pointwise import arithmetic
from fedplan.plan.variants.tfjs.products import product
from fedplan.plan.variants.tfjs.translator import (
    Extent,
    Operand,
    Rule,
    Translator,
    UnsayableError,
    Varying,
    integer,
)


def _factor(t: Translator, term: Term) -> tuple[Term, bool]:
    """A matrix, and whether its transpose is meant; a transposition that only a product reads is not made."""
    made = t.made.get(term.id)
    if made is not None and made.command == "transpose" and isinstance(made.args[0], Term):
        order = made.args[1]
        if order in {(1, 0), (0, 2, 1)}:
            return made.args[0], True
    return term, False


def _product(t: Translator, left: Arg, right: Arg) -> Term:
    """The matrix product, or a batch of them, in float32."""
    (a, turn_a), (b, turn_b) = (_factor(t, t.tensor(arg, "float32")) for arg in (left, right))
    shape = t.shape(left)
    return product(t, a, b, over=shape[-1], rank=len(shape), turn_left=turn_a, turn_right=turn_b)


def _matmul(t: Translator, node: Node) -> Term:
    left, right = node.args[:2]
    result = _product(t, left, right)
    return result if t.result_dtype(node) == "float32" else t.call("cast", result, t.result_dtype(node))


def _addmm(t: Translator, node: Node) -> Term:
    bias, left, right, beta, alpha = padded(node)
    result = _product(t, left, right)
    if alpha != 1:
        result = arithmetic(t, "mul", result, t.operand(alpha, "float32"), "float32")
    added = t.operand(bias, "float32")
    if beta != 1:
        added = arithmetic(t, "mul", added, t.operand(beta, "float32"), "float32")
    return t.call("add", result, added)


def _without(t: Translator, indices: Term, rows: Extent, classes: Extent, ignored: int) -> Term:
    """One-hot rows, of zeros where the index is the ignored one."""
    chosen = hot_rows(t, t.call("reshape", indices, (-1,)), (rows,), classes, "float32")
    if ignored < 0 or (not isinstance(classes, Varying) and ignored >= classes):
        return chosen
    kept = t.call("notEqual", t.call("reshape", indices, (-1, 1)), t.call("scalar", ignored, "int32"))
    return t.call("mul", chosen, t.call("cast", kept, "float32"))


def _embedding(t: Translator, node: Node) -> Term:
    weight, indices = node.args[:2]
    return t.call("gather", t.tensor(weight), t.tensor(indices, "int32"), 0)


def _embedding_gradient(t: Translator, node: Node) -> Term:
    """Each row's gradients added up; those of the padding are left out."""
    grad, indices, rows, padding, by_frequency = padded(node)
    if by_frequency:
        raise UnsayableError("It scales by frequency; leave scale_grad_by_freq out.")
    width = t.shape(grad)[-1]
    if isinstance(width, Varying):
        raise UnsayableError("The width of its rows depends on the batch size.")
    flat = t.call("reshape", t.tensor(grad, "float32"), (-1, width))
    places = t.call("reshape", t.tensor(indices, "int32"), (-1, 1))
    if integer(padding) >= 0:
        kept = t.call("notEqual", places, t.call("scalar", integer(padding), "int32"))
        flat = t.call("mul", flat, t.call("cast", kept, "float32"))
    return t.call("scatterND", places, flat, (integer(rows), width))


_MEAN, _SUM = 1, 2


def _weights(t: Translator, scores: Arg, target: Arg, weight: Arg, ignored: Arg) -> Term:
    """How much each score counts: (rows, classes), zero but for the target's class."""
    shape = t.shape(scores)
    if len(shape) != 2:
        raise UnsayableError("Only scores of the shape (batch, classes) can be said; reshape them to it.")
    chosen = _without(t, t.tensor(target, "int32"), *shape, integer(ignored))
    return chosen if weight is None else t.call("mul", chosen, t.operand(weight, "float32"))


def _likelihood(t: Translator, node: Node) -> tuple[Term, Term]:
    """The loss, and the sum of the weights that it was divided by."""
    scores, target, weight, reduction, ignored = padded(node)
    chosen = _weights(t, scores, target, weight, ignored)
    total = t.call("sum", chosen)
    given = t.tensor(scores)
    taken = t.call("where", t.call("cast", chosen, "bool"), given, t.call("zerosLike", given))  # no 0 · −∞
    product = t.call("neg", t.call("mul", chosen, taken))
    if reduction not in {_MEAN, _SUM}:
        return t.call("sum", product, (1,)), total
    loss = t.call("sum", product)
    return (t.call("div", loss, total) if reduction == _MEAN else loss), total


def _likelihood_gradient(t: Translator, node: Node) -> Term:
    grad, scores, target, weight, reduction, ignored, total = padded(node)
    chosen = _weights(t, scores, target, weight, ignored)
    factor: Operand = t.tensor(grad)
    if reduction == _MEAN:
        factor = t.call("div", factor, t.tensor(total))
    elif reduction != _SUM:
        factor = t.call("reshape", factor, (-1, 1))
    return t.call("neg", t.call("mul", chosen, factor))


RULES: Mapping[str, Rule] = {
    "aten.mm.default": _matmul,
    "aten.bmm.default": _matmul,
    "aten.addmm.default": _addmm,
    "aten.embedding.default": _embedding,
    "aten.embedding_dense_backward.default": _embedding_gradient,
    "aten.nll_loss_forward.default": _likelihood,
    "aten.nll_loss_backward.default": _likelihood_gradient,
}
"""By the name of the operation."""
