"""Rules for operations on single elements: arithmetic, comparison, logic, choice."""

import math
from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Arg, Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.translator import Operand, Rule, Translator, UnsayableError

_UNARY: Mapping[str, str] = {
    **{name: name for name in (
        "abs", "acos", "acosh", "asin", "asinh", "atan", "atanh", "ceil", "cos", "cosh", "exp",
        "expm1", "floor", "log", "log1p", "neg", "reciprocal", "relu", "round", "rsqrt", "sigmoid", "sign",
        "sin", "sinh", "sqrt", "tan", "tanh",
    )},
    "isinf": "isInf",
    "isnan": "isNaN",
}  # fmt: skip

_BINARY: Mapping[str, str] = {
    "atan2.default": "atan2",
    "div.Scalar": "div",
    "div.Tensor": "div",
    "maximum.default": "maximum",
    "minimum.default": "minimum",
    "mul.Scalar": "mul",
    "mul.Tensor": "mul",
    "pow.Scalar": "pow",
    "pow.Tensor_Scalar": "pow",
    "pow.Tensor_Tensor": "pow",
    "remainder.Scalar": "mod",
    "remainder.Tensor": "mod",
}

_COMPARISONS: Mapping[str, str] = {
    "eq": "equal",
    "ne": "notEqual",
    "lt": "less",
    "le": "lessEqual",
    "gt": "greater",
    "ge": "greaterEqual",
}

_LOGIC: Mapping[str, str] = {"and": "logicalAnd", "or": "logicalOr", "xor": "logicalXor"}


def _unary(command: str) -> Rule:
    """tfjs computes these in float32, whatever goes in."""

    def rule(t: Translator, node: Node) -> Term:
        result = t.call(command, t.tensor(node.args[0], "float32"))
        return t.call("cast", result, "int32") if t.result_dtype(node) == "int32" else result

    return rule


def _error_function(t: Translator, node: Node) -> Term:
    """tfjs-core 1.2.5 has it for what is not negative; it is odd."""
    value = t.tensor(node.args[0], "float32")
    return t.call("mul", t.call("sign", value), t.call("erf", t.call("abs", value)))


def arithmetic(t: Translator, command: str, left: Operand, right: Operand, dtype: str) -> Term:
    """``tf.command(left, right)`` of operands that have the dtype already.

    A bare number is a float for tfjs and would make the result one.
    """
    if dtype != "float32":
        left, right = (t.call("scalar", o, dtype) if not isinstance(o, Term) else o for o in (left, right))
    return t.call(command, left, right)


def _binary(command: str) -> Rule:
    def rule(t: Translator, node: Node) -> Term:
        dtype = _number(t, node)
        left, right = (t.operand(arg, dtype) for arg in node.args[:2])
        return arithmetic(t, command, left, right, dtype)

    return rule


def _number(t: Translator, node: Node) -> str:
    dtype = t.result_dtype(node)
    if dtype == "bool":
        raise UnsayableError("It calculates with truth values; convert them first, with `.float()`.")
    return dtype


def _sum(command: str, base: int = 0) -> Rule:
    """``a ± alpha · b``; with a base of 1, ``b ± alpha · a``."""

    def rule(t: Translator, node: Node) -> Term:
        dtype = _number(t, node)
        *pair, alpha = padded(node)
        scaled = t.operand(pair[1 - base], dtype)
        if alpha != 1:
            scaled = arithmetic(t, "mul", scaled, t.operand(alpha, dtype), dtype)
        return arithmetic(t, command, t.operand(pair[base], dtype), scaled, dtype)

    return rule


def _added_product(t: Translator, node: Node) -> Term:
    """``a + factor · b · c``: how SGD changes a parameter."""
    added, left, right, factor = padded(node)
    dtype = _number(t, node)
    product = arithmetic(t, "mul", t.operand(left, dtype), t.operand(right, dtype), dtype)
    if factor not in {1, -1}:
        product = arithmetic(t, "mul", product, t.operand(factor, dtype), dtype)
    return arithmetic(t, "sub" if factor == -1 else "add", t.operand(added, dtype), product, dtype)


def _rounded_quotient(t: Translator, node: Node) -> Term:
    left, right, mode = padded(node)
    wanted = t.result_dtype(node)
    quotient = t.call("div", t.tensor(left, "float32"), t.operand(right, "float32"))
    if mode == "floor":
        quotient = t.call("floor", quotient)
    elif mode == "trunc":
        quotient = _towards_zero(t, quotient)
    return t.call("cast", quotient, wanted) if wanted != "float32" else quotient


def _towards_zero(t: Translator, term: Term) -> Term:
    return t.call("mul", t.call("sign", term), t.call("floor", t.call("abs", term)))


def _fraction(t: Translator, node: Node) -> Term:
    """The remainder with the sign of what is divided; tfjs has that with the sign of the divisor."""
    dtype = _number(t, node)
    left, right = (t.tensor(arg, dtype) for arg in node.args[:2])
    rest = t.call("mod", t.call("abs", left), t.call("abs", right))
    rest = t.call("mul", t.call("sign", left), rest)
    return rest if dtype == "float32" else t.call("cast", rest, dtype)


def _truncate(t: Translator, node: Node) -> Term:
    value = t.tensor(node.args[0])
    return _towards_zero(t, value) if t.result_dtype(node) == "float32" else value


def _comparison(command: str) -> Rule:
    def rule(t: Translator, node: Node) -> Term:
        dtypes = {t.dtype(arg) for arg in node.args[:2]}
        dtype = "float32" if "float32" in dtypes else "int32"
        left, right = (t.operand(arg, dtype) for arg in node.args[:2])
        return arithmetic(t, command, left, right, dtype)

    return rule


def _logic(command: str) -> Rule:
    def rule(t: Translator, node: Node) -> Term:
        if t.result_dtype(node) != "bool":
            raise UnsayableError("tfjs has no operations on bits.")
        return t.call(command, *(_truth(t, arg) for arg in node.args[:2]))

    return rule


def _truth(t: Translator, arg: Arg) -> Term:
    """Whether each element differs from zero."""
    dtype = t.dtype(arg)
    value = t.tensor(arg)
    return value if dtype == "bool" else arithmetic(t, "notEqual", value, 0, dtype)


def _not(t: Translator, node: Node) -> Term:
    if t.result_dtype(node) != "bool":
        raise UnsayableError("tfjs has no operations on bits.")
    return t.call("logicalNot", _truth(t, node.args[0]))


def _cast(t: Translator, node: Node) -> Term:
    value, wanted = node.args[0], t.result_dtype(node)
    if wanted == "bool":
        return _truth(t, value)
    return t.tensor(value, wanted)


def _clamp(t: Translator, node: Node) -> Term:
    value, low, high = padded(node)
    dtype = t.result_dtype(node)
    result = t.tensor(value, dtype)
    if low is not None:
        result = arithmetic(t, "maximum", result, t.operand(low, dtype), dtype)
    if high is not None:
        result = arithmetic(t, "minimum", result, t.operand(high, dtype), dtype)
    return result


def _where(t: Translator, node: Node) -> Term:
    """tfjs chooses between tensors of one shape only."""
    dtype, shape = t.result_dtype(node), t.result_shape(node)

    def wide(arg: Arg, kind: str) -> Term:
        term = t.tensor(arg, kind)
        return term if t.shape(arg) == shape else t.broadcast(term, shape, kind)

    condition, left, right = node.args[:3]
    return t.where(wide(condition, "bool"), wide(left, dtype), wide(right, dtype), shape)


def _logarithm(base: float) -> Rule:
    def rule(t: Translator, node: Node) -> Term:
        return t.call("mul", t.call("log", t.tensor(node.args[0], "float32")), 1 / math.log(base))

    return rule


RULES: Mapping[str, Rule] = {
    **{f"aten.{name}.default": _unary(command) for name, command in _UNARY.items()},
    **{f"aten.{name}": _binary(command) for name, command in _BINARY.items()},
    **{
        f"aten.{name}.{variant}": _comparison(command)
        for name, command in _COMPARISONS.items()
        for variant in ("Scalar", "Tensor")
    },
    **{f"aten.logical_{name}.default": _logic(command) for name, command in _LOGIC.items()},
    **{
        f"aten.bitwise_{name}.{variant}": _logic(command)
        for name, command in _LOGIC.items()
        for variant in ("Scalar", "Tensor")
    },
    "aten.erf.default": _error_function,
    "aten.logical_not.default": _not,
    "aten.bitwise_not.default": _not,
    "aten.add.Scalar": _sum("add"),
    "aten.add.Tensor": _sum("add"),
    "aten.sub.Scalar": _sum("sub"),
    "aten.sub.Tensor": _sum("sub"),
    "aten.rsub.Scalar": _sum("sub", base=1),
    "aten.rsub.Tensor": _sum("sub", base=1),
    "aten.addcmul.default": _added_product,
    "aten.div.Scalar_mode": _rounded_quotient,
    "aten.div.Tensor_mode": _rounded_quotient,
    "aten.fmod.Scalar": _fraction,
    "aten.fmod.Tensor": _fraction,
    "aten.trunc.default": _truncate,
    "aten._to_copy.default": _cast,
    "aten.clamp.default": _clamp,
    "aten.clamp.Tensor": _clamp,
    "aten.where.self": _where,
    "aten.where.ScalarSelf": _where,
    "aten.where.ScalarOther": _where,
    "aten.log2.default": _logarithm(2),
    "aten.log10.default": _logarithm(10),
}
"""By the name of the operation."""
