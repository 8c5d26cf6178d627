"""What the demo shows: progress while it runs, and a table at the end."""

from collections.abc import Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fedplan.cli.terminal import print_table


class Display:
    """Live progress in a terminal; elsewhere a line for each cycle. Goes to stderr."""

    def __init__(self, workers: int, cycles: int) -> None:
        """For so many workers and cycles."""
        self._cycles = cycles
        self._workers = workers
        self._accuracies: list[float] = []
        self._console = Console(stderr=True)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._done = self._live.add_task("starting", total=cycles, note="")
        self._reports = self._live.add_task("reports", total=workers, note="")

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Prints a line that stays."""
        self._console.print(text, highlight=False, soft_wrap=True)

    def accuracy(self, value: float) -> None:
        """A cycle ended; this is the new model's accuracy on the test set."""
        self._accuracies.append(value)
        done = len(self._accuracies)
        if not self._console.is_terminal:
            self.say(f"cycle {done} of {self._cycles}: test accuracy {value:.1%}")
        self._live.update(self._done, completed=done, note=f"test accuracy {value:.1%}")

    def cycle(self, number: int, reports: int) -> None:
        """So many workers have reported in the cycle that is under way."""
        self._live.update(self._done, description=f"cycle {number} of {self._cycles}")
        self._live.update(self._reports, completed=reports, note=f"{reports} of {self._workers}")


def print_accuracies(federated: Sequence[float], central: Sequence[float]) -> None:
    """The table at the end, to stdout."""
    rows = [
        (str(cycle), f"{ours:.1%}", f"{theirs:.1%}")
        for cycle, (ours, theirs) in enumerate(zip(federated, central, strict=True), 1)
    ]
    columns = ("cycle", "federated", "central")
    print_table(columns, rows, numbers=columns)
