"""One operation of a Plan as a TorchScript expression."""

import re

from fedplan.errors import TranslationError
from fedplan.plan.ir import Node, bind, normal
from fedplan.plan.ops import OPS, lookup
from fedplan.plan.torchscript.literals import literal
from fedplan.plan.torchscript.words import ALIKE, ROWS

_CALL = re.compile(r"@(\w+)\(")

_WHY = (
    "Torch 1.8, which phones have, has nothing to say it with. Compute it from other operations; for a "
    "composite one `fedplan.trace` does that."
)

_SECOND_OPERANDS = frozenset({"other", "exponent"})


def spell(node: Node) -> str:
    """An operation as an expression over the variables ``v0``, ``v1`` …

    Calls of functions of `library` are written ``__torch__.name(…)``.

    Raises:
        TranslationError: the table of words has no row for it.
        PlanFormatError: its arguments do not fit the operator.
    """
    bind(node)
    arguments = lookup(node.op).arguments
    defaults = [normal(argument.default) for argument in arguments[len(node.args) :]]
    given = dict(zip((a.name for a in arguments), (*node.args, *defaults), strict=True))
    if node.op in ALIKE:
        said = arguments[: len(node.args)]
        listed = ", ".join(f"{a.name}={{{a.name}}}" if a.keyword else f"{{{a.name}}}" for a in said)
        template: str | None = f"torch.{node.op.split('.')[1]}({listed})"
    else:
        row = ROWS.get(node.op)
        template = row(given) if callable(row) else row
    if template is None:
        raise TranslationError(node.op, "TorchScript", source=node.source, why=_WHY)
    numbers = _SECOND_OPERANDS if _takes_numbers(node.op) else frozenset()
    texts = {a.name: literal(given[a.name], a.type, number_allowed=a.name in numbers) for a in arguments}
    return _CALL.sub(r"__torch__.\1(", template).format_map(texts)


def _takes_numbers(op: str) -> bool:
    """Whether the operation has a form whose second operand is a number."""
    packet = op.rpartition(".")[0]
    return f"{packet}.Scalar" in OPS or f"{packet}.Tensor_Scalar" in OPS
