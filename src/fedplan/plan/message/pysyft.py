"""PySyft's op lists in the terms of the op table.

PySyft records calls of PyTorch's Python functions (``torch.argmax``, ``torch.nn.functional.linear``) and
methods (``__add__``, ``view``, in-place ``add_``). Their names lead to rows of the op table; which overload
is meant is found by fitting the arguments to each row's, as PyTorch itself does.
"""

import dataclasses
import enum
from collections.abc import Mapping, Sequence

from fedplan.errors import UnsupportedOpError
from fedplan.plan.ir.arguments import normal, trim
from fedplan.plan.ir.builder import Builder
from fedplan.plan.ir.graph import Arg, Ref
from fedplan.plan.message.composed import REDUCTIONS, RULES
from fedplan.plan.ops import OPS, Argument, Kind, Op
from fedplan.wire.tensor import MAX_RANK

_PREFIXES = ("torch.nn.functional.", "torch.Tensor.", "torch.")

_NAMED: Mapping[str, str] = {alias: op.packet for op in OPS.values() for alias in op.pysyft}
"""By another name that PySyft has for operations: their own."""

_IN_PLACE = frozenset(name for name in _NAMED if name.startswith("__i") and name != "__invert__")

_CASTS: Mapping[str, str] = {
    "float": "float32", "double": "float64", "half": "float16", "bfloat16": "bfloat16", "long": "int64",
    "int": "int32", "short": "int16", "char": "int8", "byte": "uint8", "bool": "bool",
}  # fmt: skip

_COPIES = frozenset({"copy", "clone"})
_ALIASES = frozenset({"detach", "contiguous", "requires_grad_"})

_WITHOUT_MEANING = frozenset({"_stacklevel", "inplace", "memory_format"})
"""Keyword arguments that do not change the result."""


class ResultMemory(enum.Enum):
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
    memory: ResultMemory = ResultMemory.OWN


def _plain(command: str) -> str:
    for prefix in _PREFIXES:
        if command.startswith(prefix):
            return command.removeprefix(prefix)
    return command


class Actions:
    """Adds PySyft's actions to a graph in the making."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder
        self.lengths: dict[int, int] = {}
        """For inputs and constants of one dimension whose length is known: that length."""

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
            return Outcome([operands[0]], ResultMemory.ALIAS)
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
        if name in RULES:
            composed = RULES[name](self._builder, operands, kwargs)
            if composed is None:
                raise UnsupportedOpError(command, instead="Its arguments are not those of the function.")
            same = composed == operands[0]  # dropout that drops nothing
            return Outcome([composed], ResultMemory.ALIAS if same else ResultMemory.OWN)
        in_place = name in _IN_PLACE or (name.endswith("_") and not name.endswith("__"))
        name = name if name in _NAMED or not in_place else name.removesuffix("_")
        outcome = self._fit(_NAMED.get(name, name), command, operands, kwargs, results)
        return Outcome(outcome.values, ResultMemory.WRITTEN) if in_place else outcome

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
        made = self._builder.emit(op.name, args, results)
        return Outcome(list(made), ResultMemory.VIEW if op.kind is Kind.VIEW else ResultMemory.OWN)

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
    return REDUCTIONS.get(value, value) if key == "reduction" and isinstance(value, str) else value


def _overloads(name: str) -> list[Op]:
    return [op for op in OPS.values() if op.name.startswith(f"aten.{name}.") and op.implementation is None]


def _match(
    arguments: Sequence[Argument], operands: Sequence[Arg], kwargs: Mapping[str, Arg]
) -> tuple[Arg, ...] | None:
    """The operands in the order of a row's arguments, or None when they do not fit it."""
    given = list(operands)
    named = dict(kwargs)
    matched: list[Arg] = []
    last = max((place for place, argument in enumerate(arguments) if not argument.keyword), default=0)
    for place, argument in enumerate(arguments):
        if given and not argument.keyword:
            value = given.pop(0)
            spread = _is_list(argument) and place == last and isinstance(value, int)
            if spread and given:  # view(2, 6) for view([2, 6])
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
