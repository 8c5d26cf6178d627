"""One operation of a Plan as a TorchScript expression."""

import re

from fedplan.errors import TranslationError
from fedplan.plan.ir.arguments import bind, padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.ops import OPS, lookup
from fedplan.plan.ops.op import SAME
from fedplan.plan.variants.torchscript.literals import literal

_CALL = re.compile(r"@(\w+)\(")

_WHY = (
    "Torch 1.7, which phones have, has nothing to say it with. Compute it from other operations; for a "
    "composite one `fedplan.trace` does that."
)

_SECOND_OPERANDS = frozenset({"other", "exponent"})


def spell(node: Node) -> str:
    """An operation as an expression over the variables ``v0``, ``v1`` …

    Calls of functions of `library` are written ``__torch__.name(…)``.

    Raises:
        TranslationError: its row of the op table says that there are no words for it.
        PlanFormatError: its arguments do not fit the operator.
    """
    bind(node)
    op = lookup(node.op)
    arguments = op.arguments
    given = dict(zip((a.name for a in arguments), padded(node), strict=True))
    if op.torchscript == SAME:
        said = arguments[: len(node.args)]
        listed = ", ".join(f"{a.name}={{{a.name}}}" if a.keyword else f"{{{a.name}}}" for a in said)
        template: str | None = f"torch.{op.packet}({listed})"
    else:
        template = op.torchscript(given) if callable(op.torchscript) else op.torchscript
    if template is None:
        raise TranslationError(node.op, "TorchScript", source=node.source, why=_WHY)
    numbers = _SECOND_OPERANDS if _takes_numbers(node.op) else frozenset()
    texts = {a.name: literal(given[a.name], a.type, number_allowed=a.name in numbers) for a in arguments}
    return _CALL.sub(r"__torch__.\1(", template).format_map(texts)


def _takes_numbers(op: str) -> bool:
    """Whether the operation has a form whose second operand is a number."""
    packet = op.rpartition(".")[0]
    return f"{packet}.Scalar" in OPS or f"{packet}.Tensor_Scalar" in OPS
