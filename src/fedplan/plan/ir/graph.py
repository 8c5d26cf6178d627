"""The intermediate representation of a Plan: an immutable list of operations on numbered values.

Values are written once (SSA). A value is a tensor, or a number that was computed from shapes. Nothing is
ever changed in place, so every pass and every executor may share values freely.
"""

import dataclasses
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import NamedTuple

import torch


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
        source: where in the author's code it comes from, when that is known: ``net.py:12``, or
            ``net.py:12 in encoder.0: Linear``, with the layer of the network.
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


def exact(arg: object) -> Hashable:
    """An argument as a key that keeps 1, 1.0 and True apart, and -0.0 from 0.0."""
    if isinstance(arg, tuple | list) and not isinstance(arg, Ref):
        return tuple(map(exact, arg))
    return (type(arg), repr(arg)) if isinstance(arg, int | float) else arg


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
        lines = [f"%{number} = constant {list(value.shape)}" for number, value in self.constants]
        lines += [f"{node}  # {node.source}" if node.source else str(node) for node in self.nodes]
        return "\n".join([*lines, f"outputs {', '.join(f'%{o}' for o in self.outputs)}"])
