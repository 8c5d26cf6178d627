"""Rules for tensors made of sizes and numbers, and for sizes themselves."""

from collections.abc import Mapping

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.variants.tfjs.emitter import Term
from fedplan.plan.variants.tfjs.pointwise import arithmetic
from fedplan.plan.variants.tfjs.translator import Rule, Translator, Varying, axis_of


def _full(value_at: int | None, constant: float = 0) -> Rule:
    """A tensor of the result's shape and dtype, of the number in an argument or of a constant."""

    def rule(t: Translator, node: Node) -> Term:
        number = constant if value_at is None else node.args[value_at]
        shape, dtype = t.result_shape(node), t.result_dtype(node)
        if isinstance(number, bool | int | float):
            return t.full(shape, number, dtype)
        filler = t.tensor(number, dtype)
        return t.broadcast(filler, shape, dtype) if shape else filler

    return rule


def _range(t: Translator, node: Node) -> Term:
    """From a start, step by step."""
    start, end, step = padded(node)[:3]
    (extent,), dtype = t.result_shape(node), t.result_dtype(node)
    numbers = [t.operand(number) for number in (start, end, step)]
    if not isinstance(extent, Varying) and not any(isinstance(number, Term) for number in numbers):
        return t.call("range", *numbers, dtype)
    line = t.counted(extent, dtype)
    if step != 1:
        line = arithmetic(t, "mul", line, t.operand(step, dtype), dtype)
    return line if start == 0 else arithmetic(t, "add", line, t.operand(start, dtype), dtype)


def _eye(t: Translator, node: Node) -> Term:
    size, dtype = t.extent(node.args[0]), t.result_dtype(node)
    if not isinstance(size, Varying):
        return t.call("cast", t.call("eye", size), dtype)
    line = t.counted(size)
    equal = t.call("equal", t.reshape(line, (size, 1)), line)
    return equal if dtype == "bool" else t.call("cast", equal, dtype)


def _size(t: Translator, node: Node) -> Term | int:
    value, dim = node.args
    shape = t.shape(value)
    number = t.count(t.tensor(value), shape, [axis_of(dim, shape)])
    return number if isinstance(number, Term) else int(number)


def _numel(t: Translator, node: Node) -> Term | int:
    value = node.args[0]
    number = t.count(t.tensor(value), t.shape(value), range(len(t.shape(value))))
    return number if isinstance(number, Term) else int(number)


def _size_arithmetic(command: str) -> Rule:
    """Arithmetic on numbers that vary with the batch is done with tensors of one number."""

    def rule(t: Translator, node: Node) -> Term:
        return t.call(command, *(t.operand(arg, None) for arg in node.args))

    return rule


def _floor_quotient(t: Translator, node: Node) -> Term:
    return t.call("floor", t.call("div", *(t.operand(arg) for arg in node.args)))


def _as_is(t: Translator, node: Node) -> Term:
    return t.tensor(node.args[0])


RULES: Mapping[str, Rule] = {
    "aten.full.default": _full(1),
    "aten.full_like.default": _full(1),
    "aten.scalar_tensor.default": _full(0),
    "aten.ones_like.default": _full(None, 1),
    "aten.zeros_like.default": _full(None, 0),
    "aten.arange.start_step": _range,
    "aten.eye.default": _eye,
    "aten.sym_size.int": _size,
    "aten.sym_numel.default": _numel,
    "sym.add": _size_arithmetic("add"),
    "sym.sub": _size_arithmetic("sub"),
    "sym.mul": _size_arithmetic("mul"),
    "sym.truediv": _size_arithmetic("div"),
    "sym.mod": _size_arithmetic("mod"),
    "sym.max": _size_arithmetic("maximum"),
    "sym.min": _size_arithmetic("minimum"),
    "sym.neg": _size_arithmetic("neg"),
    "sym.floordiv": _floor_quotient,
    "sym.float": _as_is,
}
"""By the name of the operation."""
