"""A progress bar in a terminal."""

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from fedplan.client.events import BatchEnd
from fedplan.client.training.trainer import PlanTrainer


class TrainingProgress:
    """Shows the cycle in which a worker trains, in one line."""

    def __init__(self, show: bool | None) -> None:
        """Makes the display.

        Args:
            show: True or False; None shows it when the process has a terminal.
        """
        console = Console(stderr=True)
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            console=console,
            disable=not (console.is_terminal if show is None else show),
        )
        self._bar: TaskID | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._bars.stop()

    def follow(self, trainer: PlanTrainer, cycle: int) -> None:
        """Shows the batches of a training, in place of those of the cycle before.

        A screenful of lines that stayed would push the newest one out of sight.
        """
        if self._bars.disable:
            return
        if self._bar is not None:
            self._bars.remove_task(self._bar)
        self._bars.start()  # not before: until then somebody may be asked in the terminal; again does nothing
        per_epoch = trainer.batches_per_epoch
        total = None if per_epoch is None else per_epoch * trainer.epochs
        bar = self._bar = self._bars.add_task(f"cycle {cycle}", total=total, note="")

        @trainer.on("batch_end")
        def advance(event: BatchEnd) -> None:
            note = "" if event.loss is None else f"loss {event.loss:.4f}"
            self._bars.update(bar, advance=1, note=note)

    def wait(self, seconds: float) -> None:
        """Says that the grid is to be asked again later."""
        if not self._bars.disable:
            self._bars.console.print(f"not in a cycle yet, asking again in {seconds:.0f} s")
