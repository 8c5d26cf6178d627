"""1,000 workers that report when they like: FedBuff, which averages each ten reports, beside one cycle."""

import asyncio
import json
import time

from benchmarks.grid_calls import joined
from benchmarks.line import Line, Options
from benchmarks.load import get, lines, sent, spread
from benchmarks.models import FLOATS, host, state
from benchmarks.rows import of_other
from benchmarks.servers import Server, running

REPORTS, BUFFER = 1000, 10
CONNECTIONS = 8


async def seconds(grid: Server, name: str, diff: bytes, reports: int, checkpoint: int) -> float:
    """How long a model takes from the first of its workers' reports until a checkpoint is there.

    All workers are in its first cycle before the first one reports.
    """
    workers = await joined(grid.port, name, reports)
    async with lines(grid.port, CONNECTIONS) as made:
        started = time.perf_counter()
        await spread(made, [worker.binary_report(diff) for worker in workers], sent)
        while await _newest(made[0], name) < checkpoint:
            await asyncio.sleep(0.01)
        return time.perf_counter() - started


async def _newest(line: object, name: str) -> int:
    _, body = await line.exchange(get("/model-centric/status", name=name))  # type: ignore[attr-defined]
    number: int = json.loads(bytes(body))["models"][0]["checkpoints"][0]["number"]
    return number


def run(options: Options) -> list[Line]:
    """Reports a second, with what becomes of them; both in turns, in one grid."""
    reports, floats = (3 * BUFFER, 1000) if options.smoke else (REPORTS, FLOATS["1.25 MB"])
    diff, cycles = state(floats, 0.001), reports // BUFFER
    rates: tuple[list[float], list[float]] = ([], [])
    with running("grid") as grid:
        for turn in range(options.rounds(3)):
            names = f"asynchronous-{turn}", f"one-cycle-{turn}"
            strategy = {"name": "fedbuff", "k": BUFFER, "staleness": cycles}
            host(grid.port, names[0], state(floats), strategy=strategy)
            host(grid.port, names[1], state(floats), max_diffs=reports)
            for name, made, checkpoint in zip(names, rates, (cycles + 1, 2), strict=True):
                made.append(reports / asyncio.run(seconds(grid, name, diff, reports, checkpoint)))
    what = f"{reports} reports, averaged by {BUFFER} (FedBuff)"
    return [of_other(what, 0, *rates, "in one cycle (FedAvg)")]
