"""Rows for arithmetic on sizes, through which a Plan works for any batch size."""

import operator
from collections.abc import Callable
from typing import Any

from fedplan.plan.ops.op import Argument, Kind, Op


def _exact(value: int | float) -> int | float:
    if not isinstance(value, int | float):  # Python's operators would also join texts and repeat lists
        raise TypeError(f"{type(value).__name__} is not a number")
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise OverflowError("a size does not fit into 64 bits")
    return value


def _row(
    name: str, function: Callable[..., Any], torchscript: str, *, operands: int = 2, exact: bool = True
) -> Op:
    def arithmetic(*numbers: int | float) -> int | float:
        return _exact(function(*map(_exact, numbers)))

    signature = tuple(Argument(f"operand{i}", "number") for i in range(operands))
    implementation = arithmetic if exact else function
    return Op(name, Kind.SIZE, torchscript=torchscript, implementation=implementation, signature=signature)


ROWS = (
    _row("sym.add", operator.add, "{operand0} + {operand1}"),
    _row("sym.sub", operator.sub, "{operand0} - {operand1}"),
    _row("sym.mul", operator.mul, "{operand0} * {operand1}"),
    _row("sym.floordiv", operator.floordiv, "{operand0} // {operand1}"),
    _row("sym.mod", operator.mod, "{operand0} % {operand1}"),
    _row("sym.truediv", operator.truediv, "{operand0} / {operand1}"),
    _row("sym.neg", operator.neg, "-({operand0})", operands=1),
    _row("sym.max", max, "max({operand0}, {operand1})"),
    _row("sym.min", min, "min({operand0}, {operand1})"),
    _row("sym.float", float, "float({operand0})", operands=1),
    _row(
        "aten.sym_size.int",
        lambda tensor, dim: tensor.shape[dim],
        "torch.size({operand0}, {operand1})",
        exact=False,
    ),
    _row(
        "aten.sym_numel.default",
        lambda tensor: tensor.numel(),
        "torch.numel({operand0})",
        operands=1,
        exact=False,
    ),
)
"""All of them."""
