"""The intermediate representation of a Plan: an immutable list of operations on numbered values.

Values are written once (SSA). A value is a tensor, or a number that was computed from shapes. Nothing is
ever changed in place, so every pass and every executor may share values freely.
"""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import torch

from fedplan.errors import PlanFormatError
from fedplan.plan.guards import WITNESSES
from fedplan.plan.ops import DTYPES, Argument, dtype_name, lookup, row, takes_device


class Ref(NamedTuple):
    """A value of the graph, by its number."""

    id: int

    def __repr__(self) -> str:
        return f"%{self.id}"


Arg = Ref | int | float | bool | str | None | tuple["Arg", ...]
"""An argument of an operation. A dtype is its name; a list is a tuple."""


@dataclasses.dataclass(frozen=True, slots=True)
class Node:
    """One operation.

    Attributes:
        op: its name in the op table.
        args: all arguments in the order of the operator's schema; trailing defaults may be left out.
        results: the numbers of the values that it makes.
        source: ``file:line`` in the author's code, when it is known.
    """

    op: str
    args: tuple[Arg, ...]
    results: tuple[int, ...]
    source: str | None = None

    def refs(self) -> Iterator[int]:
        """The numbers of the values that it reads, with repetitions."""
        return _refs(self.args)

    def replace(self, change: Callable[[int], Arg]) -> "Node":
        """The same node with each value that it reads exchanged for `change(id)`."""
        return dataclasses.replace(self, args=_exchange(self.args, change))

    def __str__(self) -> str:
        results = ", ".join(f"%{r}" for r in self.results)
        return f"{results} = {self.op}({', '.join(map(_show, self.args))})"


def _refs(args: Iterable[Arg]) -> Iterator[int]:
    for arg in args:
        if isinstance(arg, Ref):
            yield arg.id
        elif isinstance(arg, tuple):
            yield from _refs(arg)


def _exchange(args: tuple[Arg, ...], change: Callable[[int], Arg]) -> tuple[Arg, ...]:
    def one(arg: Arg) -> Arg:
        if isinstance(arg, Ref):
            return change(arg.id)
        return _exchange(arg, change) if isinstance(arg, tuple) else arg

    return tuple(map(one, args))


def _show(arg: Arg) -> str:
    if isinstance(arg, tuple) and not isinstance(arg, Ref):
        return f"[{', '.join(map(_show, arg))}]"
    return repr(arg)


@dataclasses.dataclass(frozen=True, slots=True)
class Graph:
    """The body of a Plan.

    Attributes:
        inputs: numbers of the input values, in order.
        constants: tensors that belong to the Plan (its state), by number.
        nodes: the operations, in an order in which they can run.
        outputs: numbers of the output values, in order.
    """

    inputs: tuple[int, ...]
    constants: tuple[tuple[int, torch.Tensor], ...]
    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]

    def defined(self) -> set[int]:
        """Numbers of the values that exist before the first operation."""
        return {*self.inputs, *(number for number, _ in self.constants)}

    def numbers(self) -> set[int]:
        """Numbers of all values."""
        return self.defined().union(*(node.results for node in self.nodes))

    def last_uses(self) -> list[list[int]]:
        """For each operation, the values that nothing reads after it (and that are not outputs)."""
        seen = set(self.outputs)
        dying: list[list[int]] = []
        for node in reversed(self.nodes):
            here = [value for value in dict.fromkeys((*node.refs(), *node.results)) if value not in seen]
            seen.update(here)
            dying.append(here)
        return dying[::-1]

    def __str__(self) -> str:
        lines = [f"inputs {', '.join(f'%{i}' for i in self.inputs)}"]
        lines += [f"%{number} = constant {list(value.shape)}" for number, value in self.constants]
        lines += [f"{node}  # {node.source}" if node.source else str(node) for node in self.nodes]
        return "\n".join([*lines, f"outputs {', '.join(f'%{o}' for o in self.outputs)}"])


def verify(graph: Graph) -> None:
    """Checks that a graph is well formed: known operations, values written once and before they are read.

    Raises:
        UnsupportedOpError: an operation is not in the table.
        PlanFormatError: anything else is wrong; the message names the operation.
    """
    known: set[int] = set()

    def define(number: int, what: str) -> None:
        if number in known:
            raise PlanFormatError(f"{what} writes the value %{number}, which exists already")
        known.add(number)

    for number in (*graph.inputs, *(number for number, _ in graph.constants)):
        define(number, "an input or constant")
    vouched: set[tuple[object, ...]] = set()
    for node in graph.nodes:
        lookup(node.op, node.source)
        for number in node.refs():
            if number not in known:
                raise PlanFormatError(f"'{node}' reads the value %{number} before it exists")
        if node.op in WITNESSES and _needed_testimony(node) not in vouched:
            forward = WITNESSES[node.op].forward
            raise PlanFormatError(f"'{node}' may only follow the '{forward}' that checks its indices")
        if node.op in _FORWARD_OPS:
            vouched.update(_testimonies(node))
        for number in node.results:
            define(number, f"'{node}'")
    for number in graph.outputs:
        if number not in known:
            raise PlanFormatError(f"the output %{number} is not the value of any operation")


_FORWARD_OPS = frozenset(witness.forward for witness in WITNESSES.values())


def _testimonies(node: Node) -> Iterator[tuple[object, ...]]:
    """What a forward operation vouches for, as a key for each gradient that needs it."""
    for op, witness in WITNESSES.items():
        if witness.forward == node.op and len(node.results) > witness.result[1]:
            given = padded(node)
            yield (op, *(given[there] for _, there in witness.same), Ref(node.results[witness.result[1]]))


def _needed_testimony(node: Node) -> tuple[object, ...]:
    witness = WITNESSES[node.op]
    given = padded(node)
    return (node.op, *(given[here] for here, _ in witness.same), given[witness.result[0]])


def padded(node: Node) -> tuple[Arg, ...]:
    """The arguments with the schema's defaults for those that were left out."""
    rest = row(node.op).arguments[len(node.args) :]
    return (*node.args, *(normal(argument.default) for argument in rest))


def normal(value: object) -> Arg:
    """A schema's default or a traced argument in the form in which the IR holds it.

    Raises:
        PlanFormatError: a Plan has no place for such a value.
    """
    if isinstance(value, torch.dtype):
        return dtype_name(value)
    if isinstance(value, list | tuple) and not isinstance(value, Ref):
        return tuple(map(normal, value))
    if value is None or isinstance(value, Ref | bool | int | float | str):
        return value
    raise PlanFormatError(f"an argument of the type {type(value).__name__} has no place in a Plan: {value!r}")


def trim(arguments: Sequence[Argument], values: Sequence[Arg]) -> tuple[Arg, ...]:
    """The values of an operation's arguments without the trailing ones that only repeat the default."""
    kept = list(values)
    for argument in reversed(arguments[: len(kept)]):
        if argument.required or kept[-1] != normal(argument.default):
            break
        kept.pop()
    return tuple(kept)


Bound = Arg | torch.dtype | torch.device

_TAKE_TRUTH = ("bool", "number", "Tensor")
"""Types of arguments that may be given as True or False; PyTorch's two ways of calling differ on others."""


def bind(node: Node, device: torch.device | None = None) -> tuple[tuple[Bound, ...], dict[str, Bound]]:
    """A node's arguments as PyTorch takes them: required ones by position, the others by name.

    Args:
        node: the operation.
        device: where operations that make tensors from nothing put them.

    Raises:
        PlanFormatError: more or fewer arguments than the operator takes, or an unknown dtype.
    """
    arguments = row(node.op).arguments
    if len(node.args) > len(arguments) or any(a.required for a in arguments[len(node.args) :]):
        raise PlanFormatError(f"'{node}' has {len(node.args)} arguments, which does not fit the operator")
    positional: list[Bound] = []
    keywords: dict[str, Bound] = {}
    for argument, value in zip(arguments, node.args, strict=False):
        given: Bound = value
        if "ScalarType" in argument.type and value is not None:
            if not isinstance(value, str) or value not in DTYPES:
                raise PlanFormatError(f"'{node}' names the dtype {value!r}; a Plan's are {', '.join(DTYPES)}")
            given = DTYPES[value]
        if isinstance(value, bool) and not any(kind in argument.type for kind in _TAKE_TRUTH):
            raise PlanFormatError(f"'{node}' gives {value} for the number '{argument.name}'")
        if argument.keyword or not argument.required:
            keywords[argument.name] = given
        else:
            positional.append(given)
    if device is not None and takes_device(node.op):
        keywords["device"] = device
    return tuple(positional), keywords
