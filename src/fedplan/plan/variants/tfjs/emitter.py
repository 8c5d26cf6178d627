"""Actions in the vocabulary of tfjs, one after the other, each on the results of earlier ones."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple


class Term(NamedTuple):
    """The result of an action, an input or a constant, by its number."""

    id: int

    def __repr__(self) -> str:
        return f"%{self.id}"


Argument = Term | int | float | bool | str | tuple["Argument", ...]
"""What an action takes: terms, and numbers, texts and lists that stand in the Plan itself."""


@dataclasses.dataclass(frozen=True, slots=True)
class Action:
    """One call of a function of tfjs, or of a method when there is a target.

    Attributes:
        command: the function's name in `tf`, or the method's name in `tf.Tensor`.
        args: its arguments, all by position.
        result: the number of its result.
        target: whose method it is.
    """

    command: str
    args: tuple[Argument, ...]
    result: int
    target: Term | None = None

    def terms(self) -> Iterator[Term]:
        """The terms that it reads."""
        if self.target is not None:
            yield self.target
        for arg in self.args:  # syft.js looks up terms among the arguments, not inside of lists
            if isinstance(arg, Term):
                yield arg


class Emitter:
    """Collects actions; equal actions on equal terms are one, but for those that draw random numbers."""

    def __init__(self) -> None:
        self.actions: list[Action] = []
        self.made: dict[int, Action] = {}
        """The action that made a term, by the term's number."""
        self._known: dict[str, Term] = {}
        self.count_of_terms = 0
        """Terms have the numbers below."""

    def new(self) -> Term:
        """A term that no action makes: an input or a constant."""
        self.count_of_terms += 1
        return Term(self.count_of_terms - 1)

    def call(self, command: str, *args: Argument) -> Term:
        """The result of ``tf.command(…args)``. Of two shapes of the same elements only the last matters."""
        if command == "reshape" and isinstance(args[0], Term):
            made = self.made.get(args[0].id)
            if made is not None and made.command == command and made.target is None:
                args = (made.args[0], *args[1:])
        return self._emit(command, args, None)

    def method(self, target: Term, command: str, *args: Argument) -> Term:
        """The result of ``target.command(…args)``."""
        return self._emit(command, args, target)

    def _emit(self, command: str, args: tuple[Argument, ...], target: Term | None) -> Term:
        key = repr((command, args, target))  # keeps 1, 1.0 and True apart
        if key not in self._known:
            term = self._known[key] = self.new()
            action = Action(command, args, term.id, target)
            self.actions.append(action)
            self.made[term.id] = action
        return self._known[key]

    def draw(self, command: str, *args: Argument) -> Term:
        """The result of ``tf.command(…args)``, which is another one each time."""
        made = self.new()
        self.actions.append(Action(command, args, made.id))
        return made

    def copy(self, term: Term) -> Term:
        """The term in memory of its own, never shared with another copy."""
        return self.draw("clone", term)


def needed(actions: Sequence[Action], outputs: Sequence[Term]) -> list[Action]:
    """The actions without those that no output needs."""
    wanted = {term.id for term in outputs}
    kept = []
    for action in reversed(actions):
        if action.result in wanted:
            wanted.update(term.id for term in action.terms())
            kept.append(action)
    return kept[::-1]
