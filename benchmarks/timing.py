"""Measuring two things in turns, so that what else the machine does disturbs both alike."""

import dataclasses
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.line import Line


@dataclasses.dataclass(frozen=True, slots=True)
class Comparison:
    """Seconds of one unit of work on each side, by round."""

    ours: list[float]
    theirs: list[float]

    def line(self, what: str, target: float) -> Line:
        """The ratio as a line: the median over the rounds of each round's ratio."""
        ratios = [a / b for a, b in zip(self.ours, self.theirs, strict=True)]
        return Line(
            what,
            duration(statistics.median(self.ours)),
            duration(statistics.median(self.theirs)),
            statistics.median(ratios),
            quartiles(ratios),
            target,
        )

    def excess(self, what: str, target: float) -> Line:
        """What ours takes longer than theirs, in microseconds, as a line."""
        differences = [(a - b) * 1e6 for a, b in zip(self.ours, self.theirs, strict=True)]
        ours, theirs = map(statistics.median, (self.ours, self.theirs))
        value = statistics.median(differences)
        return Line(what, duration(ours), duration(theirs), value, quartiles(differences), target, "µs")


def clock_of(device: str) -> Callable[[], float]:
    """What measures work on a device, in seconds.

    On the CPU that is time of this process's processor, which other programs disturb less. An accelerator
    computes while Python goes on, so there the clock waits first until all that was asked for is done.
    """
    if device == "cpu":
        return time.process_time

    def clock() -> float:
        torch.accelerator.synchronize(torch.device(device))
        return time.perf_counter()

    return clock


def interleave(
    ours: Callable[[], object],
    theirs: Callable[[], object],
    *,
    rounds: int,
    units: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> Comparison:
    """Runs both sides in turns; where that is more than once, after one run of each that does not count.

    Args:
        ours: does `units` units of work.
        theirs: does the same amount.
        rounds: how often each side runs; which one is first alternates.
        units: units of work in one call.
        clock: `clock_of` the device for work of this process alone.
    """
    sides = (ours, theirs)
    taken: tuple[list[float], list[float]] = ([], [])
    if rounds > 1:
        for side in sides:
            side()
    for turn in range(rounds):
        for index in (0, 1) if turn % 2 else (1, 0):
            begin = clock()
            sides[index]()
            taken[index].append((clock() - begin) / units)
    return Comparison(*taken)


def quartiles(values: list[float]) -> tuple[float, float]:
    """Lower and upper quartile; of one value that value."""
    if len(values) == 1:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def duration(seconds: float) -> str:
    """Seconds as people read them."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.0f} µs" if seconds >= 1e-5 else f"{seconds * 1e6:.2g} µs"
