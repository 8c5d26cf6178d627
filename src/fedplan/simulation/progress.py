"""What is under way: a progress bar, or a function that is told of each piece as it comes."""

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedplan.simulation.history import SimulatedRow

T = TypeVar("T")

Show = bool | Callable[[T], object] | None
"""Whether a progress bar is shown, or what is called with each piece; None: a bar where it would be seen."""


def shown(
    show: Show[T], pieces: Iterator[T], what: str, total: int, note: Callable[[T], str], done: int = 0
) -> Iterator[T]:
    """The pieces, each shown before it goes on.

    Args:
        show: how.
        pieces: what is computed, as it comes.
        what: a piece is called, such as ``round``.
        total: how many there are to be.
        note: what is said of the latest one.
        done: how many there were before.
    """
    if callable(show):
        for piece in pieces:
            show(piece)
            yield piece
        return
    console = Console(stderr=True)
    is_seen = console.is_terminal or _is_in_notebook() if show is None else show
    bars = Progress(
        TextColumn(what),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        disable=not is_seen,
    )
    with bars:
        bar = bars.add_task("", total=max(total, done), completed=done, note="")
        for piece in pieces:
            bars.update(bar, advance=1, note=note(piece))
            yield piece


def _is_in_notebook() -> bool:
    """Whether this is a notebook that can show a bar."""
    return "ipykernel" in sys.modules and importlib.util.find_spec("ipywidgets") is not None


def note_of(row: SimulatedRow) -> str:
    """A cycle in a few words: its test, or the loss of its training."""
    tests = [name for name in row.metrics if name.startswith("test_")]
    names = tests or [name for name in row.metrics if name in ("loss", "training_loss")]
    return ", ".join(f"{name} {row.metrics[name].value:.4g}" for name in names)
