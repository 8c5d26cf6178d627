"""From the last report of a cycle to its new checkpoint, and the memory that a cycle takes."""

import asyncio
import json
import statistics
import time
from collections.abc import Iterable, Sequence

from benchmarks import load
from benchmarks.grid_calls import CLIENTS, joined
from benchmarks.line import Line, Options
from benchmarks.load import Taken, get, idle_memory, lines, sent, spread
from benchmarks.models import FLOATS, host, state
from benchmarks.rows import at_most
from benchmarks.servers import Server, running


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


async def _all(options: Options) -> list[Line]:
    if options.smoke:
        return await measure((2,), "1.25 MB", 1)
    return [*await measure((10, 1200), "1.25 MB", 2), *await measure((3,), "100 MB", 2)]


def run(options: Options) -> list[Line]:
    """The table's lines."""
    return asyncio.run(_all(options))
