"""What one operation costs: estimates that tell megabytes from terabytes and minutes from years.

Whoever writes a hostile Plan looks for operations whose result is small and whose way there is not: a mean
of squared differences between a column and a row, a pool under a window as large as the picture.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch

from fedplan.plan.ir.arguments import padded
from fedplan.plan.ir.graph import Node
from fedplan.plan.ops import Kind, Op, Trait, lookup
from fedplan.plan.ops.op import ELEMENT
from fedplan.plan.run.interpreter import fetch

_WIDEST = 8
"""Bytes of the widest number."""

_NARROW = 2
"""Bytes up to which a conversion to the widest number multiplies memory enough to count."""

_TERMS = 4
"""Tensors of its terms that a loss holds at one time, each as large as its operands broadcast together."""


_PASSES = 30
"""How often an eigenvalue algorithm goes over a matrix for each of its rows, at most."""

_COPIES = 10
"""Copies of its matrices that an operation of linear algebra holds; an exponential has most."""


class _Call(NamedTuple):
    """An operation with the values around it, on the meta device."""

    node: Node
    op: Op
    operands: list[torch.Tensor]
    results: list[torch.Tensor]

    @property
    def backward(self) -> bool:
        return "backward" in self.node.op


def _call(node: Node, values: Mapping[int, Any]) -> _Call:
    def tensors(numbers: Any) -> list[torch.Tensor]:
        return [value for value in map(values.get, numbers) if isinstance(value, torch.Tensor)]

    return _Call(node, lookup(node.op), tensors(node.refs()), tensors(node.results))


def nbytes(value: Any) -> int:
    """Memory of a value in bytes, as if nothing were shared; 0 for a size."""
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def work(node: Node, values: Mapping[int, Any]) -> int:
    """Additions and multiplications of one operation, roughly.

    Args:
        node: the operation.
        values: its arguments and results by number; tensors on the meta device.
    """
    call = _call(node, values)
    if call.op.work is not None:
        return call.op.work([fetch(arg, values) for arg in padded(node)])
    if call.op.kind is Kind.MATMUL and len(call.operands) >= 2:
        left, made = call.operands[-2], call.results[0]
        return 2 * made.numel() * max(left.shape[-1] if left.dim() else 1, 1)
    if call.op.kind is Kind.CONVOLUTION and len(call.operands) >= 2:
        return (4 if call.backward else 2) * _multiplications(call, values)
    elements = sum(t.numel() for t in (*call.results, *call.operands))
    if call.op.kind is Kind.FACTOR:
        return _PASSES * elements * _side(call)
    if call.op.kind is Kind.POOL and "adaptive" not in node.op:
        made = call.operands[0] if call.backward else call.results[0]
        elements += made.numel() * _window(call, values)
    if Trait.HOLDS_TERMS in call.op.traits:
        elements += _TERMS * _common([t.shape for t in call.operands])
    if node.op == "aten.index_put.default":
        elements += _common(_indices(fetch(node.args[1], values)))
    return ELEMENT * elements


def _side(call: _Call) -> int:
    """The longest side of the matrices that an operation solves or takes apart."""
    return max((side for tensor in (*call.operands, *call.results) for side in tensor.shape[-2:]), default=1)


def _multiplications(call: _Call, values: Mapping[int, Any]) -> int:
    return _grid(call, values).numel() * math.prod(_weight(call).shape[1:])


def _weight(call: _Call) -> torch.Tensor:
    return call.operands[2 if call.backward else 1]


def _grid(call: _Call, values: Mapping[int, Any]) -> torch.Tensor:
    """The tensor with one place for each position of the kernel; its channels are the weight's rows."""
    output, value = call.operands[:2] if call.backward else (call.results[0], call.operands[0])
    transposed = "conv_transpose" in call.node.op or _argument(call, "transposed", values)
    return value if transposed else output


def _argument(call: _Call, name: str, values: Mapping[int, Any]) -> Any:
    """The argument of this name; None when the operation takes none."""
    for argument, given in zip(call.op.arguments, padded(call.node), strict=True):
        if argument.name == name:
            return fetch(given, values)
    return None


def _window(call: _Call, values: Mapping[int, Any]) -> int:
    """Elements under a pool's window."""
    kernel = fetch(call.node.args[2 if call.backward else 1], values)
    sides = kernel if isinstance(kernel, list) else [kernel]
    rank = next(rank for rank in (3, 1, 2) if f"{rank}d" in call.node.op or rank == 2)
    return int(math.prod(sides) ** (rank // len(sides)))


def _indices(given: Sequence[Any]) -> list[Sequence[int]]:
    """Shapes of lists of indices; a mask of truth values becomes lists of as many as it has elements."""
    tensors = [item for item in given if isinstance(item, torch.Tensor)]
    return [(t.numel(),) if t.dtype in {torch.bool, torch.uint8} else t.shape for t in tensors]


def _common(shapes: Sequence[Sequence[int]]) -> int:
    """Elements of the shape to which these are broadcast."""
    extents = itertools.zip_longest(*(reversed(shape) for shape in shapes), fillvalue=1)
    return math.prod(map(max, extents))


def scratch(node: Node, values: Mapping[int, Any]) -> int:
    """Bytes that a kernel may take for itself while it runs, where that can be many times its results.

    Args:
        node: the operation.
        values: its arguments and results by number; tensors on the meta device.
    """
    call = _call(node, values)
    if call.op.scratch is not None:
        return call.op.scratch([fetch(arg, values) for arg in padded(node)])
    if call.op.kind is Kind.CONVOLUTION and len(call.operands) >= 2:
        # the pieces of the picture under each position of the kernel, side by side
        pieces = _multiplications(call, values) // max(_weight(call).shape[0], 1)
        return pieces * _weight(call).element_size()
    if node.op == "aten.matmul.default" and len(call.operands) == 2:
        return _repeated_matrices(call.operands[0], call.operands[1], call.results[0])
    if call.op.kind is Kind.FACTOR:
        return _COPIES * sum(map(nbytes, (*call.operands, *call.results)))
    if Trait.HOLDS_TERMS in call.op.traits:
        return _TERMS * _WIDEST * _common([t.shape for t in call.operands])
    if Trait.ORDERS in call.op.traits:
        return 2 * _WIDEST * sum(t.numel() for t in call.operands)
    if call.op.kind in {Kind.POINTWISE, Kind.REDUCTION, Kind.INDEX}:
        return sum(map(_converted, call.operands)) * (_rank(call) if call.op.kind is Kind.INDEX else 1)
    return 0


def _converted(operand: torch.Tensor) -> int:
    """Bytes of an operand turned into the type that the kernel computes in."""
    return _WIDEST * operand.numel() if operand.element_size() <= _NARROW else 0


def _rank(call: _Call) -> int:
    """A mask of truth values becomes as many lists of indices as it has dimensions."""
    return max(max((t.dim() for t in call.operands), default=1), 1)


def _repeated_matrices(left: torch.Tensor, right: torch.Tensor, made: torch.Tensor) -> int:
    """Bytes of the two stacks of matrices that a product of stacks of other sizes writes out."""
    if max(left.dim(), right.dim()) < 3:
        return 0
    rows = left.shape[-2] if left.dim() > 1 else 1
    columns = right.shape[-1] if right.dim() > 1 else 1
    pairs = made.numel() // max(rows * columns, 1)
    return pairs * left.shape[-1] * (rows + columns) * made.element_size()
