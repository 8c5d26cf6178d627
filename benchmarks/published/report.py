"""What a reproduction is asked, and what it says."""

import dataclasses
import math
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import fedplan
from fedplan.simulation import Simulation


@dataclasses.dataclass(frozen=True)
class Asked:
    """What the command line asks for.

    Attributes:
        data: the folder with MNIST's files; None where it was not told.
        fashion: the folder with Fashion-MNIST's.
        seeds: how often each is run.
        only: only the rows whose name holds this text.
        rounds: cycles, in place of the published number.
        engine: of the simulation.
    """

    data: Path | None
    fashion: Path | None
    seeds: int
    only: str | None
    rounds: int | None
    engine: str

    @property
    def mnist(self) -> Path:
        """The folder with MNIST's files.

        Raises:
            SystemExit: it was not told.
        """
        if self.data is None:
            raise SystemExit("this needs MNIST: tell the folder with its four files, --data FOLDER")
        return self.data

    def wants(self, name: str) -> bool:
        """Whether a row is asked for."""
        return self.only is None or self.only.lower() in name.lower()


def run_seeds(asked: Asked, run: Callable[[int], float]) -> tuple[str, float]:
    """Runs something with each seed.

    Args:
        asked: says how many there are.
        run: seed → a result; an infinite one where there was none.

    Returns:
        Mean and standard deviation of the results, as text that also counts the seeds without one, and the
        seconds that one run took.
    """
    started = time.perf_counter()
    found = [run(seed) for seed in range(asked.seeds)]
    seconds = (time.perf_counter() - started) / asked.seeds
    ended = [result for result in found if math.isfinite(result)]
    spread = f" ± {statistics.stdev(ended):.2f}" if len(ended) > 1 else ""
    mean = f"{statistics.mean(ended):.2f}{spread}" if ended else "–"
    without = f" ({len(found) - len(ended)} of {len(found)} seeds did not get there)"
    return mean + (without if len(ended) < len(found) else ""), seconds


def print_table(columns: Sequence[str], rows: Iterator[Sequence[str]]) -> None:
    """Prints a table for Markdown, each row as soon as it is there."""
    print(f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}", flush=True)
    for row in rows:
        print(f"| {' | '.join(row)} |", flush=True)


def last_accuracy(result: Simulation) -> float:
    """On the test data after the last cycle, in percent."""
    return 100 * list(result.history.values("test_accuracy").values())[-1]


METRICS = {"accuracy": fedplan.accuracy}
