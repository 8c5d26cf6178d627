"""A simulation that is under way: a progress bar, and its rows."""

import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedplan.simulation.history import SimulatedRow

Show = bool | Callable[[SimulatedRow], object] | None
"""Whether a progress bar is shown, or what is called with each row; None: a bar where it would be seen."""


def shown(show: Show, rows: Iterator[SimulatedRow], rounds: int, done: int = 0) -> Iterator[SimulatedRow]:
    """The rows, each shown before it goes on.

    Args:
        show: how.
        rows: of the cycles, as they end.
        rounds: how many there are to be.
        done: how many there were before.
    """
    if callable(show):
        for row in rows:
            show(row)
            yield row
        return
    console = Console(stderr=True)
    visible = console.is_terminal or "ipykernel" in sys.modules if show is None else show
    bars = Progress(
        TextColumn("round"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not visible,
    )
    with bars:
        bar = bars.add_task("", total=rounds, completed=done, note="")
        for row in rows:
            bars.update(bar, completed=min(row.cycle, rounds), note=_note(row))
            yield row


def _note(row: SimulatedRow) -> str:
    tests = [name for name in row.metrics if name.startswith("test_")]
    names = tests or [name for name in row.metrics if name in ("loss", "training_loss")]
    return ", ".join(f"{name} {row.metrics[name].value:.4g}" for name in names)
