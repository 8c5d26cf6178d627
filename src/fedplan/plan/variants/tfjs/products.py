"""Matrix products, and what WebGL adds to them.

WebGL keeps a matrix in blocks of 2 × 2, and computes with blocks. Where an extent is odd, the last blocks
reach beyond the matrix, and an operation on elements leaves there what it makes of nothing: 1 of `equal`, the
bias of a sum. A product over an odd extent adds that to its result, in tfjs-core 1.2.5 and 1.7.4. `pad`
leaves zeros there, also when it pads by nothing.
"""

from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Extent, Translator, Varying


def product(
    t: Translator,
    left: Term,
    right: Term,
    *,
    over: Extent,
    rank: int,
    turn_left: bool = False,
    turn_right: bool = False,
) -> Term:
    """The matrix product, or a batch of them.

    Args:
        t: the translation.
        left: (…, rows, over); with the last two turned round if `turn_left`.
        right: (…, over, columns); with the last two turned round if `turn_right`.
        over: the extent that both have.
        rank: how many dimensions both have.
        turn_left: the left is given transposed.
        turn_right: the right is given transposed.
    """
    if isinstance(over, Varying) or over % 2:
        left, right = (_whole(t, term, rank) for term in (left, right))
    return t.call("matMul", left, right, turn_left, turn_right)


def _whole(t: Translator, term: Term, rank: int) -> Term:
    """The matrix with zeros where its last blocks reach beyond it."""
    made = t.made.get(term.id)
    if made is not None and made.command == "pad":
        return term
    return t.call("pad", term, ((0, 0),) * rank, 0.0)
