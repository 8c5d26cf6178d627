"""From the last report of a cycle to its new checkpoint, and the memory that a cycle takes."""

import asyncio
import contextlib
import dataclasses
import json
import statistics
import time
from collections.abc import Iterable, Sequence

from benchmarks import load
from benchmarks.grid_calls import CLIENTS, joined
from benchmarks.line import Line, Options
from benchmarks.load import Taken, cpu_seconds, get, idle_memory, lines, sent, spread
from benchmarks.models import FLOATS, host, state
from benchmarks.rows import at_most
from benchmarks.servers import Server, running
from benchmarks.timing import quartiles


async def checkpoint_of(line: load.Line, name: str) -> int:
    """Number of a model's newest checkpoint."""
    _, body = await line.exchange(get("/model-centric/status", name=name))
    (model,) = json.loads(bytes(body))["models"]
    return int(model["checkpoints"][0]["number"])


async def close(
    grid: Server, name: str, workers: Sequence[Taken], diff: bytes, clients: int = CLIENTS
) -> float:
    """All of a cycle's reports; seconds from the answer to the last one to the checkpoint."""
    async with lines(grid.port, clients) as made:
        before = await checkpoint_of(made[0], name)
        *most, last = (worker.binary_report(diff) for worker in workers)
        await spread(made, most, sent)
        await sent(made[0], last)
        started = time.perf_counter()
        while await checkpoint_of(made[0], name) == before:
            await asyncio.sleep(0.002)  # a grid tells nobody
        return time.perf_counter() - started


async def measure(counts: Iterable[int], size: str, rounds: int) -> list[Line]:
    """Cycles of so many diffs each."""
    model, diff = state(FLOATS[size]), state(FLOATS[size], 0.001)
    rows: list[Line] = []
    with running("grid") as grid:
        for count in counts:
            name = f"cycles-of-{count}"
            host(grid.port, name, model, max_diffs=count)
            took = []
            for _ in range(rounds):
                workers = await joined(grid.port, name, count)
                took.append(await close(grid, name, workers, diff))
                await asyncio.sleep(0.5)  # the diffs are deleted
            workers = await joined(grid.port, name, count)
            with idle_memory(grid.pid) as peak:
                await close(grid, name, workers, diff, clients=1)  # bodies on their way are not its memory
                rose = peak() / len(model)
            most = 100 if size == "1.25 MB" else 1000
            what = f"{count} diffs of {size}"
            rows += [
                at_most(f"last report to checkpoint, {what}", most, 1e3 * statistics.median(took), "ms"),
                at_most(f"memory above idle, {what}", 4, rose, "x model"),
            ]
    return rows


@dataclasses.dataclass
class Pair:
    """Two replicas over one database and one folder of blobs.

    Attributes:
        grids: the two.
        closing: seconds from each cycle's last report to its checkpoint.
        computing: seconds that both computed for each cycle.
    """

    grids: Sequence[Server]
    closing: list[float] = dataclasses.field(default_factory=list)
    computing: list[float] = dataclasses.field(default_factory=list)

    async def cycle(self, name: str, count: int, diff: bytes) -> None:
        """A cycle of so many reports, the half of them to each."""
        workers = await joined(self.grids[0].port, name, count)
        before = self._computed()
        first, second = (lines(grid.port, CLIENTS // 2) for grid in self.grids)
        async with first as some, second as others:
            number = await checkpoint_of(some[0], name)
            *most, last = (worker.binary_report(diff) for worker in workers)
            await asyncio.gather(spread(some, most[::2], sent), spread(others, most[1::2], sent))
            await sent(some[0], last)
            started = time.perf_counter()
            while await checkpoint_of(some[0], name) == number:
                await asyncio.sleep(0.002)
            self.closing.append(time.perf_counter() - started)
        self.computing.append(self._computed() - before)
        await asyncio.sleep(1.0)  # the diffs are deleted

    def _computed(self) -> float:
        return sum(sum(cpu_seconds(grid.pid)) for grid in self.grids)


async def two_replicas(count: int, rounds: int) -> list[Line]:
    """Replicas that merge each other's sums, beside such that read each other's diffs, in turns."""
    size, name = "1.25 MB", "shared"
    diff = state(FLOATS[size], 0.001)
    with contextlib.ExitStack() as stack:
        pairs = []
        for kind in ("grid", "unaware"):
            first = stack.enter_context(running(kind))
            pairs.append(Pair((first, stack.enter_context(running(kind, folder=first.folder)))))
            host(first.port, name, state(FLOATS[size]), max_diffs=count)
        await asyncio.sleep(2.0)  # replicas look for each other every second
        for _ in range(rounds):
            for pair in pairs:
                await pair.cycle(name, count, diff)
    ours, theirs = pairs
    what = f"{count} diffs of {size}, two replicas"
    return [
        _beside(f"last report to checkpoint, {what}", 1e3, "ms", 1.1, ours.closing, theirs.closing),
        _beside(f"computed by both, {what}", 1.0, "s", 1.0, ours.computing, theirs.computing),
    ]


def _beside(
    what: str, scale: float, unit: str, most: float, ours: Sequence[float], theirs: Sequence[float]
) -> Line:
    ratios = [mine / other for mine, other in zip(ours, theirs, strict=True)]
    mine, other = (f"{scale * statistics.median(side):.3g} {unit}" for side in (ours, theirs))
    against = f"{other}, reading each other's diffs"
    return Line(what, mine, against, statistics.median(ratios), quartiles(ratios), most)


async def _all(options: Options) -> list[Line]:
    if options.smoke:
        return [*await measure((2,), "1.25 MB", 1), *await two_replicas(20, 1)]
    return [
        *await measure((10, 1200), "1.25 MB", 2),
        *await measure((3,), "100 MB", 2),
        *await two_replicas(1000, 4),
    ]


def run(options: Options) -> list[Line]:
    """The table's lines."""
    return asyncio.run(_all(options))
