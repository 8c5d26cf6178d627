"""What a benchmark is asked for, and what it answers: lines of a table."""

import dataclasses
import math
from collections.abc import Iterable
from typing import TypeVar

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Options:
    """How to run a benchmark.

    Attributes:
        smoke: run as little as possible, to see that it works; figures and targets mean nothing then.
        device: where the tensors are, such as ``cpu`` or ``cuda``; what has no tensors ignores it.
    """

    smoke: bool = False
    device: str = "cpu"

    def rounds(self, count: int) -> int:
        """How often to measure: so often, or once in a smoke run."""
        return 1 if self.smoke else count

    def cases(self, every: Iterable[T]) -> list[T]:
        """Which cases to measure: all of these, or the first in a smoke run."""
        return list(every)[: 1 if self.smoke else None]


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One measured claim.

    Attributes:
        what: what was measured.
        ours: figure of this project, with its unit.
        theirs: figure of what it is compared with; "" where the claim is an absolute one.
        value: what the target is for: a ratio ours / theirs, or a figure.
        spread: lower and upper quartile of `value` over the rounds.
        target: the most that `value` may be; infinite where it is information, and no claim.
        unit: of `value`; "" for a ratio.
    """

    what: str
    ours: str
    theirs: str
    value: float
    spread: tuple[float, float]
    target: float
    unit: str = ""

    @property
    def passed(self) -> bool:
        """Whether the claim holds."""
        return self.value <= self.target


def table(lines: list[Line], judged: bool = True) -> str:
    """The lines as a table in Markdown; without targets and verdicts where the figures mean nothing."""
    head = ("", "ours", "against", "ratio or figure", "quartiles", "target", "verdict")
    rows = [head, *(_cells(line, judged) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    texts = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {text} |" for text in [texts[0], rule, *texts[1:]])


def _cells(line: Line, judged: bool) -> tuple[str, ...]:
    unit = f" {line.unit}" if line.unit else ""
    low, high = line.spread
    target, verdict = f"<= {_digits(line.target)}{unit}", "pass" if line.passed else "FAIL"
    if math.isinf(line.target):
        target, verdict = "–", "–"
    if not judged:
        target, verdict = "–", "ran"
    return (
        line.what,
        line.ours,
        line.theirs,
        f"{_digits(line.value)}{unit}",
        f"{_digits(low)} to {_digits(high)}",
        target,
        verdict,
    )


def _digits(number: float) -> str:
    """A number with three digits, or with all that stand before its point."""
    return f"{number:.3g}" if abs(number) < 1000 else f"{number:.0f}"
