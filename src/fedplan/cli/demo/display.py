"""What the demo shows: progress while it runs, and a table at the end."""

import time
from collections.abc import Callable, Sequence
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from fedplan.cli.demo.federation import Moment
from fedplan.cli.terminal import print_table

_QUIET_SECONDS = 20.0
"""When nothing has happened for so long, it says what is waited for."""


class Display:
    """Live progress in a terminal; elsewhere a line for each cycle. Goes to stderr.

    Attributes:
        accuracies: of the model before the training, and after each cycle that was shown.
    """

    def __init__(self, workers: int, cycles: int, clock: Callable[[], float] = time.monotonic) -> None:
        """For so many workers and cycles; the clock is in seconds."""
        self.accuracies: list[float] = []
        self._cycles = cycles
        self._workers = workers
        self._clock = clock
        self._seen, self._since = (0, 0), clock()
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

    def show(self, moment: Moment) -> None:
        """Shows how far the workers are, and what they have measured since the last time."""
        for value in moment.accuracies[len(self.accuracies) :]:
            self._accuracy(value)
        now = (moment.cycle, moment.reports)
        if now != self._seen:
            self._seen, self._since = now, self._clock()
        elif self._clock() - self._since > _QUIET_SECONDS:
            self._since = self._clock()
            self.say(f"waiting: {moment.waits_for}")
        training = moment.cycle <= self._cycles
        name = f"cycle {moment.cycle} of {self._cycles}" if training else "evaluation"
        self._live.update(self._done, description=name)
        self._live.update(
            self._reports, completed=moment.reports, note=f"{moment.reports} of {self._workers}"
        )

    def _accuracy(self, value: float) -> None:
        done = len(self.accuracies)
        self.accuracies.append(value)
        if not self._console.is_terminal:
            when = f"after cycle {done} of {self._cycles}" if done else "before the training"
            self.say(f"{when}: accuracy {value:.1%}")
        self._live.update(self._done, completed=done, note=f"accuracy {value:.1%}")


def print_accuracies(federated: Sequence[float], central: Sequence[float]) -> None:
    """The table at the end, to stdout."""
    rows = [
        (str(cycle), f"{ours:.1%}", f"{theirs:.1%}")
        for cycle, (ours, theirs) in enumerate(zip(federated, central, strict=True))
    ]
    columns = ("cycle", "federated", "central")
    print_table(columns, rows, numbers=columns)
