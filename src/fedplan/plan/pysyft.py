"""PySyft's op lists in the terms of the op table.

PySyft records calls of PyTorch's Python functions (``torch.argmax``, ``torch.nn.functional.linear``) and
methods (``__add__``, ``view``, in-place ``add_``). Their names lead to rows of the op table; which overload
is meant is found by fitting the arguments to each row's, as PyTorch itself does.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

import torch

from fedplan.errors import PlanFormatError, UnsupportedOpError
from fedplan.plan.ir import Arg, Node, Ref, normal, trim
from fedplan.plan.ops import DTYPES, OPS, Argument, Kind, Op, dtype_name
from fedplan.wire.tensor import MAX_RANK

_PREFIXES = ("torch.nn.functional.", "torch.Tensor.", "torch.")

_OPERATORS: Mapping[str, str] = {
    **{f"__{name}__": name for name in (
        "add", "sub", "mul", "pow", "matmul", "neg", "abs", "eq", "ne", "lt", "le", "gt", "ge", "mod",
    )},
    **{f"__r{name}__": name for name in ("add", "mul")},
    **{f"__i{name}__": name for name in ("add", "sub", "mul", "pow")},
    "__truediv__": "div",
    "__div__": "div",
    "__itruediv__": "div",
    "__rsub__": "rsub",
    "__and__": "bitwise_and",
    "__or__": "bitwise_or",
    "__xor__": "bitwise_xor",
    "__invert__": "bitwise_not",
}  # fmt: skip

_IN_PLACE = frozenset(name for name in _OPERATORS if name.startswith("__i") and name != "__invert__")

_NAMES: Mapping[str, str] = {
    "mod": "remainder",
    "view": "reshape",
    "cross_entropy": "cross_entropy_loss",
}

_CASTS: Mapping[str, str] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64",
    "int": "int32", "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip

_COPIES = frozenset({"copy", "clone"})
_ALIASES = frozenset({"detach", "contiguous", "requires_grad_"})

_WITHOUT_MEANING = frozenset({"_stacklevel", "inplace", "memory_format"})
"""Keyword arguments that do not change the result."""

_REDUCTIONS: Mapping[str, int] = {"none": 0, "mean": 1, "sum": 2}


class Memory(enum.Enum):
    """Whose memory an action's results lie in: what a later in-place action would change as well."""

    OWN = "own"
    VIEW = "view"
    """Perhaps the first operand's, under another shape."""
    ALIAS = "alias"
    """The first operand's: another name of the same tensor."""
    WRITTEN = "written"
    """The first operand's, which the action has changed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """What an action returns."""

    values: list[Arg]
    memory: Memory = Memory.OWN


def _plain(command: str) -> str:
    for prefix in _PREFIXES:
        if command.startswith(prefix):
            return command.removeprefix(prefix)
    return command


class Builder:
    """A graph in the making: operations and constants, with value numbers given out in order."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.constants: list[tuple[int, torch.Tensor]] = []
        self.lengths: dict[int, int] = {}
        """For inputs and constants of one dimension whose length is known: that length."""
        self._count = 0

    def new(self) -> int:
        """The next value's number."""
        self._count += 1
        return self._count - 1

    def constant(self, tensor: torch.Tensor) -> Ref:
        """A tensor that belongs to the Plan."""
        if dtype_name(tensor.dtype) not in DTYPES:
            raise PlanFormatError(f"the Plan holds a tensor of the dtype {tensor.dtype}, which it may not")
        number = self.new()
        self.constants.append((number, tensor))
        return Ref(number)

    def call(self, command: str, operands: Sequence[Arg], kwargs: Mapping[str, Arg], results: int) -> Outcome:
        """Adds the operations of one PySyft action.

        Args:
            command: such as ``torch.argmax``, ``__add__`` or ``add_``.
            operands: the target, if any, and the positional arguments.
            kwargs: the keyword arguments.
            results: how many values the action returns.

        Raises:
            UnsupportedOpError: no row of the op table is meant by the command with these arguments.
        """
        name = _plain(command)
        if not operands:
            raise UnsupportedOpError(command, instead="It comes from a PySyft Plan, without any argument.")
        if name in _COPIES:
            return Outcome([operands[0]])
        if name in _ALIASES:
            return Outcome([operands[0]], Memory.ALIAS)
        kwargs = {key: _reduction(key, value) for key, value in kwargs.items() if key not in _WITHOUT_MEANING}
        if name in _CASTS and not kwargs:
            return self._emit(OPS["aten._to_copy.default"], (operands[0], _CASTS[name]), results)
        if name == "__getitem__" and len(operands) == 2:
            return self._getitem(operands, results)
        if name in {"__rtruediv__", "__rdiv__"}:
            inverse = self._emit(OPS["aten.reciprocal.default"], (operands[0],), 1)
            return self._fit("mul", command, [*inverse.values, *operands[1:]], kwargs, results)
        if name == "__rpow__":
            return self._fit("pow", command, [*operands[1:], operands[0]], kwargs, results)
        in_place = name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
        name = _OPERATORS.get(name, name.removesuffix("_") if in_place else name)
        outcome = self._fit(_NAMES.get(name, name), command, operands, kwargs, results)
        return Outcome(outcome.values, Memory.WRITTEN) if in_place else outcome

    def _fit(
        self, name: str, command: str, operands: Sequence[Arg], kwargs: Mapping[str, Arg], results: int
    ) -> Outcome:
        for op in _overloads(name):
            args = _match(op.arguments, operands, kwargs)
            if args is not None:
                return self._emit(op, args, results)
        known = ", ".join(op.name for op in _overloads(name))
        raise UnsupportedOpError(
            command,
            instead=f"Its arguments fit none of {known}." if known else "It comes from a PySyft Plan.",
        )

    def _emit(self, op: Op, args: tuple[Arg, ...], results: int) -> Outcome:
        numbers = tuple(self.new() for _ in range(results))
        self.nodes.append(Node(op.name, args, numbers))
        return Outcome([Ref(n) for n in numbers], Memory.VIEW if op.kind is Kind.VIEW else Memory.OWN)

    def _getitem(self, operands: Sequence[Arg], results: int) -> Outcome:
        value, index = operands
        if isinstance(index, int) and not isinstance(index, bool):
            return self._emit(OPS["aten.select.int"], (value, 0, index), results)
        if isinstance(index, Ref) and 0 <= self.lengths.get(index.id, -1) <= MAX_RANK:
            # PySyft spreads an index tensor over the dimensions: x[[2, 0]] is x[2, 0], not rows 2 and 0
            each = [
                self._emit(OPS["aten.select.int"], (index, 0, place), 1).values[0]
                for place in range(self.lengths[index.id])
            ]
            return self._emit(OPS["aten.index.Tensor"], (value, tuple(each)), results)
        raise UnsupportedOpError(
            "__getitem__",
            instead="Only an integer, or an input of one dimension and known length, can be the index.",
        )


def _reduction(key: str, value: Arg) -> Arg:
    return _REDUCTIONS.get(value, value) if key == "reduction" and isinstance(value, str) else value


def _overloads(name: str) -> list[Op]:
    return [op for key, op in OPS.items() if key.startswith(f"aten.{name}.")]


def _match(
    arguments: Sequence[Argument], operands: Sequence[Arg], kwargs: Mapping[str, Arg]
) -> tuple[Arg, ...] | None:
    """The operands in the order of a row's arguments, or None when they do not fit it."""
    given = list(operands)
    named = dict(kwargs)
    matched: list[Arg] = []
    for argument in arguments:
        if given and not argument.keyword:
            value = given.pop(0)
            if _is_list(argument) and isinstance(value, int) and given:  # view(2, 6) for view([2, 6])
                value, given = (value, *given), []
        elif argument.name in named:
            value = named.pop(argument.name)
        elif argument.required:
            return None
        else:
            value = normal(argument.default)
        if _is_list(argument) and isinstance(value, int) and not isinstance(value, bool):
            value = (value,)
        if not _fits(argument, value):
            return None
        matched.append(value)
    return None if given or named else trim(arguments, matched)


def _is_list(argument: Argument) -> bool:
    return "List[int]" in argument.type or "List[SymInt]" in argument.type


def _fits(argument: Argument, value: Arg) -> bool:
    kind = argument.type
    if value is None:
        return not argument.required or kind.startswith("Optional")
    if "List[" in kind:
        return isinstance(value, tuple) and not isinstance(value, Ref)
    if "Tensor" in kind:
        return isinstance(value, Ref)
    if "number" in kind or "float" in kind:
        return isinstance(value, int | float)
    if "bool" in kind:
        return isinstance(value, bool)
    if "int" in kind or "SymInt" in kind:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, str)
