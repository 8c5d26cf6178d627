"""How an argument of an operation is written in TorchScript."""

import math

from fedplan.plan.ir.graph import Arg, Ref

DTYPE_NUMBERS = {
    "uint8": 0,
    "int8": 1,
    "int16": 2,
    "int32": 3,
    "int64": 4,
    "float16": 5,
    "float32": 6,
    "float64": 7,
    "bool": 11,
    "bfloat16": 15,
}
"""A dtype is a number in TorchScript, the same one in every version."""


def literal(value: Arg, type: str, *, number_allowed: bool = False) -> str:
    """The text of an argument.

    Args:
        value: the argument.
        type: what the operator takes, in the words of `fedplan.plan.ops.Argument`.
        number_allowed: TorchScript takes a number and a tensor there, whichever `type` says.
    """
    inner = type.removeprefix("Optional[").removesuffix("]") if type.startswith("Optional[") else type
    if inner.startswith("List["):
        return _list(value, inner)
    if isinstance(value, Ref):
        return f"float(v{value.id})" if inner == "float" else f"v{value.id}"
    if value is None:
        return "None"
    if isinstance(value, str):
        return str(DTYPE_NUMBERS[value]) if inner == "ScalarType" else repr(value)
    if isinstance(value, tuple):
        return _list(value, "List[int]")
    if inner == "bool":
        return repr(bool(value))
    if inner == "Tensor" or (isinstance(value, bool) and number_allowed):
        return _tensor(value, number_allowed)
    return number(float(value) if inner == "float" else value)


def number(value: float) -> str:
    """The text of a number; a truth value counts as one."""
    if isinstance(value, float):
        return repr(value) if math.isfinite(value) else f"{value}"  # inf and nan are names there
    if value == -(2**63):
        return f"({value + 1} - 1)"  # the sign is read after the digits, which alone are too large
    return str(int(value))


def _tensor(value: float, number_allowed: bool) -> str:
    """A number where the operator takes a tensor."""
    if isinstance(value, bool):
        return f"torch.scalar_tensor({number(value)}, dtype={DTYPE_NUMBERS['bool']})"
    if number_allowed:
        return number(value)
    kind = "float64" if isinstance(value, float) else "int64"
    return f"torch.scalar_tensor({number(value)}, dtype={DTYPE_NUMBERS[kind]})"


def _list(value: Arg, type: str) -> str:
    """A list; what is left out is an empty one, which means the same to those operators that allow it."""
    inner = type.removeprefix("List[").removesuffix("]")
    items = (
        ()
        if value is None
        else value
        if isinstance(value, tuple) and not isinstance(value, Ref)
        else (value,)
    )
    text = f"[{', '.join(literal(item, inner) for item in items)}]"
    return text if items and not inner.startswith("Optional[") else f"annotate({type}, {text})"
