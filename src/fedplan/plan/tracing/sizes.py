"""The sizes of a trace: symbols, and what was asked about them on the way.

A recorded path is right only for sizes with which every question has the answer that it had while the step
was recorded. Questions that have another answer for other sizes make the Plan wrong for these, silently,
unless the Plan itself fails with them, as a `topk(4)` of three rows does.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import sympy  # type: ignore[import-untyped]
import torch
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode, ShapeEnv
from torch.utils._sympy.functions import Mod, PythonMod

from fedplan.plan.tracing import reads, source, words
from fedplan.plan.tracing.notes import Notes

_TRIED = (*range(1, 129), 200, 256, 500, 512, 1000, 1024, 4096)
"""Numbers of rows for which answers are compared."""

_KERNEL_CHOICE = "_subclasses/fake_impls.py"
"""Where PyTorch asks for sizes only to guess which kernel this machine would take."""

_EITHER_WAY = frozenset({"LinalgPinvBackward0"})
"""Gradients for which PyTorch has two formulas with one result, and chooses the one of smaller matrices."""

_PYTHON = "torch/__init__.py"
"""Where Python asks, by `if`, `int` or `range`; PyTorch's C++ asks further inside."""

_BETWEEN = (
    _PYTHON,
    "torch/fx/experimental/symbolic_shapes.py",
    "torch/fx/experimental/sym_node.py",
    "torch/fx/experimental/recording.py",
)
"""Files of PyTorch between who asks about a number and its environment."""


@dataclasses.dataclass(frozen=True, slots=True)
class Assumption:
    """What a trace took for granted that does not hold for some numbers of rows.

    Attributes:
        question: what was asked, such as ``rows >= 4``.
        place: where in the author's code, when it is known.
        rows: of the numbers of rows that were tried, those for which the answer is another.
        authors: the author's code asked, not an operation of PyTorch's.
    """

    question: str
    place: str | None
    rows: tuple[int, ...]
    authors: bool


class Sizes(ShapeEnv):
    """An environment of symbolic sizes that remembers where each of them was asked about."""

    def __init__(self, place: Callable[[], str | None]) -> None:
        """Starts without symbols.

        Args:
            place: where in the author's code the trace is now.
        """
        super().__init__(duck_shape=False)
        self.place = place
        self._harmless: set[int] = set()
        self._askers: dict[int, tuple[str, bool, str | None]] = {}  # of guards: file, the author's, place
        self._fixed: dict[Any, str | None] = {}  # by symbol: where it got a number
        self._of_one_row: dict[Any, Assumption] = {}  # by what was asked

    def evaluate_expr(self, *args: Any, **options: Any) -> Any:
        """PyTorch asks this about every size that Python looks at."""
        known = len(self.guards)
        try:
            answer = super().evaluate_expr(*args, **options)
            if len(self.guards) == known:
                self._note_foregone(args[0], answer)
            return answer
        except GuardOnDataDependentSymNode as error:
            frame = reads.reader(*_BETWEEN)
            passes = reads.passing(frame, truth=True)
            if passes is None:
                if Notes.running is not None:
                    Notes.running.note_unanswered(frame, error)
                raise
            return sympy.true if passes else sympy.false
        finally:
            if len(self.guards) > known:
                gradient = torch._C._current_autograd_node()
                if gradient is not None and gradient.name() in _EITHER_WAY:
                    self._harmless.update(range(known, len(self.guards)))
                self._askers.update(dict.fromkeys(range(known, len(self.guards)), self._asker()))

    def _note_foregone(self, question: Any, answer: Any) -> None:
        """Notes a question of the author's that PyTorch answers without a guard: rows are several to it."""
        if answer not in (sympy.true, sympy.false) or not getattr(question, "free_symbols", None):
            return
        if question in self._of_one_row or _with_rows(question, 1) in (answer, None):
            return
        _, authors, place = self._asker()
        if authors and reads.passing(reads.reader(*_BETWEEN), truth=True) is None:
            said = question if answer == sympy.true else sympy.Not(question)
            self._of_one_row[question] = Assumption(words.with_rows(str(said)), place, (1,), authors)

    def _set_replacement(self, a: Any, tgt: Any, msg: str) -> None:
        """PyTorch calls this when it has learnt that a symbol is a number, or another symbol."""
        if tgt.is_number:
            self._fixed.setdefault(a, self.place())
        super()._set_replacement(a, tgt, msg)

    def fixed_at(self, symbol: Any) -> str | None:
        """Where in the author's code a size was fixed, when it was and that is known."""
        while symbol not in self._fixed and symbol in self.replacements:
            symbol = self.replacements[symbol]
        return self._fixed.get(symbol)

    def _asker(self) -> tuple[str, bool, str | None]:
        outer, inner = reads.reader(*_BETWEEN), reads.reader(*_BETWEEN[1:])
        assert outer is not None
        return outer.f_code.co_filename, inner is not outer and source.is_authors(outer), self.place()

    def assumptions(self) -> Iterator[Assumption]:
        """What was asked about sizes and has another answer for some numbers of rows."""
        yield from self._of_one_row.values()
        for index, guard in enumerate(self.guards):
            file, authors, place = self._askers[index]
            if file.endswith(_KERNEL_CHOICE) or index in self._harmless:
                continue
            question = self.simplify(guard.expr)
            rows = tuple(r for r in _TRIED if _with_rows(question, r) == sympy.false)
            if rows and (authors or not _asks_whether_several(question, rows)):
                yield Assumption(words.with_rows(str(guard.expr)), place, rows, authors)


def _with_rows(expression: Any, rows: int) -> Any:
    """An expression for so many rows; None where it has no value, as ``8 // (rows // 2)`` for one row."""
    try:
        return expression.subs(dict.fromkeys(expression.free_symbols, rows))
    except ZeroDivisionError:
        return None


def _asks_whether_several(question: Any, rows: tuple[int, ...]) -> bool:
    """Whether the question is only whether sizes are above one.

    PyTorch asks that to tell how sizes spread over each other and how tensors lie in memory. A Plan's
    operations see to both when they run, as they do for a batch of one sample.
    """
    parts = question.atoms(sympy.core.relational.Relational)
    return (
        bool(parts) and not question.has(Mod, PythonMod) and all(_is_about_one(part, rows) for part in parts)
    )


def _is_about_one(question: Any, rows: tuple[int, ...]) -> bool:
    left, right = question.args
    if left.is_number:
        left, right = right, left
    return bool(right.is_number) and all(_with_rows(left, r) in {0, 1} for r in rows)
