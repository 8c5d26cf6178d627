"""What a benchmark is asked for, and what it answers: lines of a table."""

import dataclasses


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
        """How often to measure: so often, or twice in a smoke run."""
        return 2 if self.smoke else count


@dataclasses.dataclass(frozen=True, slots=True)
class Line:
    """One measured claim.

    Attributes:
        what: what was measured.
        ours: figure of this project, with its unit.
        theirs: figure of what it is compared with; "" where the claim is an absolute one.
        value: what the target is for: a ratio ours / theirs, or a figure.
        spread: lower and upper quartile of `value` over the rounds.
        target: the most that `value` may be.
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
    """The lines as a table in Markdown; without a verdict where the figures mean nothing."""
    head = ("", "ours", "against", "ratio or figure", "quartiles", "target", "")
    rows = [head, *(_cells(line, judged) for line in lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(head))]
    texts = [" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    rule = "-|-".join("-" * width for width in widths)
    return "\n".join(f"| {text} |" for text in [texts[0], rule, *texts[1:]])


def _cells(line: Line, judged: bool) -> tuple[str, ...]:
    unit = f" {line.unit}" if line.unit else ""
    low, high = line.spread
    return (
        line.what,
        line.ours,
        line.theirs,
        f"{line.value:.2f}{unit}",
        f"{low:.2f} to {high:.2f}",
        f"<= {line.target:g}{unit}",
        ("pass" if line.passed else "FAIL") if judged else "ran",
    )
