"""Robust rules: the median of a cycle's diffs, from their bytes, beside torch's; and what each rule takes."""

import math
import tempfile
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.line import Line, Options
from benchmarks.models import FLOATS
from benchmarks.rows import at_most
from benchmarks.timing import duration, interleave
from fedplan.federation import Reports, ServerState, Setting, Strategy, strategy_of
from fedplan.federation.scratch import Scratch
from fedplan.federation.tensors import Float64s
from fedplan.plan import Role
from fedplan.wire import State, WireTensor
from fedplan.wire.config import parse_server_config

MOST_MB = 256
SEVERAL = 100
"""Diffs of which each rule is timed."""

RULES: dict[str, dict[str, Any]] = {
    "median": {},
    "trimmed_mean": {},
    "krum": {"f": 20},
    "multi_krum": {"f": 20},
    "bulyan": {"f": 20},
    "centred_clipping": {},
    "geometric_median": {},
    "median in buckets of 2": {"name": "median", "bucketing": 2},
}


class Cycle:
    """The diffs of a cycle, one file each, as a grid has them in its blobs.

    Args:
        folder: where the files are.
        count: how many diffs.
        floats: numbers in each, float32.
    """

    def __init__(self, folder: Path, count: int, floats: int) -> None:
        self.folder, self.floats = folder, floats
        self.files = [folder / str(number) for number in range(count)]
        random = np.random.default_rng(0)
        shared = 0.01 * random.standard_normal(floats, np.float32)
        for file in self.files:
            diff = shared + 0.01 * random.standard_normal(floats, np.float32)
            file.write_bytes(State.of([WireTensor(diff, "float32")]).serialize())

    def strategy(self, name: str, **settings: Any) -> Strategy:
        """A robust strategy for the model of these diffs."""
        config = parse_server_config({"strategy": {"name": name, **settings}})
        return strategy_of(Setting(config, {}, (((self.floats,), "float32"),), None, (Role.TRAINED,)))

    def diffs(self, count: int | None = None) -> Iterator[WireTensor]:
        """Reads the first files."""
        for file in self.files[:count]:
            yield State.parse(file.read_bytes()).tensors[0]

    def combined(
        self, strategy: Strategy, combine: Callable[[Reports], Float64s], count: int | None = None
    ) -> Float64s:
        """As a grid does: the diffs are written to one file, of which the rule reads slices."""
        with Scratch(self.folder / "scratch", strategy.setting) as scratch:
            for diff in self.diffs(count):
                scratch.add([diff])
            return combine(scratch)

    def torchs_median(self) -> torch.Tensor:
        """The same with everything in memory; of an even number torch takes the lower one in the middle."""
        rows = torch.empty(len(self.files), self.floats)
        for row, diff in zip(rows, self.diffs(), strict=True):
            row.numpy()[:] = diff.array
        return rows.median(dim=0).values


def median_beside_torch(cycle: Cycle, rounds: int) -> list[Line]:
    """The time from the bytes to the median, and the memory that the rule takes."""
    strategy = cycle.strategy("median")
    count = len(cycle.files)
    size = f"{count} diffs of {4 * cycle.floats / 1e6:.3g} MB"
    taken = interleave(
        lambda: cycle.combined(strategy, combine_of(strategy)), cycle.torchs_median, rounds=rounds
    )
    ours, theirs = cycle.combined(strategy, combine_of(strategy)), cycle.torchs_median().numpy()
    if np.abs(ours - theirs).max() > 0.01:
        raise RuntimeError("the two medians have nothing to do with each other")
    return [
        taken.line(f"median, {size}, read and combined", 3.0),
        at_most(f"memory of the median, {size}", MOST_MB, memory(cycle, strategy), "MB"),
    ]


def memory(cycle: Cycle, strategy: Strategy) -> float:
    """The most megabytes that a rule holds while it combines the reports."""
    combine = combine_of(strategy)

    def measured(reports: Reports) -> Float64s:
        tracemalloc.start()
        made = combine(reports)
        peaks.append(tracemalloc.get_traced_memory()[1] / 1e6)
        tracemalloc.stop()
        return made

    peaks: list[float] = []
    cycle.combined(strategy, measured)
    return peaks[0]


def rule_alone(cycle: Cycle, what: str, strategy: Strategy, count: int) -> Line:
    """How long a rule takes for some diffs: information, without a target."""
    combine = combine_of(strategy)
    took: list[float] = []

    def timed(reports: Reports) -> Float64s:
        begin = time.perf_counter()
        made = combine(reports)
        took.append(time.perf_counter() - begin)
        return made

    cycle.combined(strategy, timed, count)
    return Line(f"{what}, {count} diffs", duration(took[0]), "", took[0], (took[0],) * 2, math.inf, "s")


def combine_of(strategy: Strategy) -> Callable[[Reports], Float64s]:
    """A robust strategy's rule."""
    combine = strategy.combine
    assert combine is not None
    return lambda reports: combine(reports, ServerState())


def run(options: Options) -> list[Line]:
    """The table's lines."""
    count, floats = (SEVERAL, 1000) if options.smoke else (1200, FLOATS["1.25 MB"])
    with tempfile.TemporaryDirectory() as folder:
        cycle = Cycle(Path(folder), count, floats)
        lines = median_beside_torch(cycle, options.rounds(3))
        for what, settings in RULES.items():
            strategy = cycle.strategy(**{"name": what, **settings})
            lines.append(rule_alone(cycle, what, strategy, SEVERAL))
    return lines
