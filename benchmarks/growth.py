"""What the calls take on a grid that has grown: many models, many worker rows."""

import asyncio
import contextlib
import hashlib
import math
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.line import Line, Options
from benchmarks.load import get, join, lines, say, sent
from benchmarks.models import host, state
from benchmarks.queries import explained
from benchmarks.servers import running

MODELS = (1, 10, 100, 1000)
WORKERS = (1_000, 10_000, 100_000, 1_000_000)
FLOATS = 1000
CALLS = ("authenticate", "cycle-request", "get-model", "get-plan", "report", "status of one model")
Times = dict[str, float]


def fill(folder: Path, count: int) -> None:
    """Puts so many workers into the database, as if they had taken part: half in the open cycle."""
    with contextlib.closing(sqlite3.connect(folder / "grid.db")) as db, db:
        (cycle_id, process_id, checkpoint_id) = db.execute(
            "SELECT id, process_id, checkpoint_id FROM cycles ORDER BY id LIMIT 1"
        ).fetchone()
        past = db.execute(
            "INSERT INTO cycles (process_id, number, phase, checkpoint_id, opened_at, occupied, reported) "
            "VALUES (?, 0, 'done', ?, 0, 0, 0)",
            (process_id, checkpoint_id),
        ).lastrowid

        def row(number: int) -> tuple[object, ...]:
            name = hashlib.sha256(str(number).encode()).hexdigest()
            return (past if number % 2 else cycle_id, name, name[:32], name, 0.0, False)

        db.executemany(
            "INSERT INTO assignments (cycle_id, worker_id, identity, key_digest, accepted_at, released) "
            "VALUES (?, ?, ?, ?, ?, ?)",
            map(row, range(count)),
        )


async def timed(port: int, each: int) -> Times:
    """Median milliseconds of each call, one after the other on one connection."""
    took: dict[str, list[float]] = {name: [] for name in CALLS}
    diff = state(FLOATS, 0.001)
    async with lines(port, 1) as (line,):

        async def note(name: str, work: object) -> object:
            started = time.perf_counter()
            result = await work  # type: ignore[misc]
            took[name].append(time.perf_counter() - started)
            return result

        for _ in range(each):
            name = "m-0"
            await note("authenticate", say(line, "authenticate", model_name=name, model_version="1.0"))
            worker = await join(line, name)
            other = (await say(line, "authenticate", model_name=name, model_version="1.0"))["worker_id"]
            asked = say(line, "cycle-request", worker_id=other, model=name, version="1.0")
            await note("cycle-request", asked)
            await note("get-model", sent(line, worker.get_model()))
            await note("get-plan", sent(line, worker.get_plan()))
            await note("report", sent(line, worker.binary_report(diff)))
            await note("status of one model", sent(line, get("/model-centric/status", name=name)))
    return {name: 1e3 * statistics.median(values) for name, values in took.items()}


def grown(models: int, workers: int, each: int) -> Times:
    """The times on a grid of such a size."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running("grid", folder=folder) as grid:
            for number in range(models):
                server = {"max_diffs": 10**7, "do_not_reuse_workers_until_cycle": 1}
                host(grid.port, f"m-{number}", state(FLOATS), **server)
        fill(folder, workers)
        with running("grid", folder=folder) as grid:
            asyncio.run(timed(grid.port, 5))
            return asyncio.run(timed(grid.port, each))


def compare(sizes: Sequence[tuple[str, int, int]], each: int, rounds: int) -> list[Line]:
    """Each size beside the first, which is measured again next to it: the machine is not the same all day."""
    (_, few_models, few_workers), *others = sizes
    made: list[Line] = []
    for what, models, workers in others:
        pairs = [(grown(models, workers, each), grown(few_models, few_workers, each)) for _ in range(rounds)]
        for call in CALLS:
            ratios = sorted(large[call] / base[call] for large, base in pairs)
            ours, theirs = (
                f"{statistics.median(side[call] for side in sides):.2f} ms"
                for sides in zip(*pairs, strict=True)
            )
            median = statistics.median(ratios)
            made.append(Line(f"{call}, {what}", ours, theirs, median, (ratios[0], ratios[-1]), 1.5))
    return made


def wait(folder: Path, count: int) -> None:
    """Puts so many rejected workers into the database, all of which are still to ask again."""
    with contextlib.closing(sqlite3.connect(folder / "grid.db")) as db, db:
        (process_id,) = db.execute("SELECT id FROM processes").fetchone()
        rows = ((process_id, hashlib.sha256(str(number).encode()).hexdigest()) for number in range(count))
        db.executemany("INSERT INTO waiting (process_id, worker_id, until) VALUES (?, ?, 1e12)", rows)


async def rejected(port: int, each: int) -> float:
    """Median milliseconds of a request for a place in a cycle that is full."""
    took = []
    async with lines(port, 1) as (line,):
        for _ in range(each):
            worker = (await say(line, "authenticate", model_name="m-0", model_version="1.0"))["worker_id"]
            started = time.perf_counter()
            answer = await say(line, "cycle-request", worker_id=worker, model="m-0", version="1.0")
            took.append(time.perf_counter() - started)
            assert answer["status"] == "rejected", answer
    return 1e3 * statistics.median(took)


def crowded(waiting: int, each: int, selection: str) -> float:
    """That time on a grid where so many wait for the model's only place."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running("grid", folder=folder) as grid:
            host(grid.port, "m-0", state(FLOATS), max_workers=1, pool_selection=selection)
            asyncio.run(_take_place(grid.port))
        wait(folder, waiting)
        with running("grid", folder=folder) as grid:
            return asyncio.run(rejected(grid.port, each))


async def _take_place(port: int) -> None:
    async with lines(port, 1) as (line,):
        await join(line, "m-0")


def herds(counts: Sequence[int], each: int) -> list[Line]:
    """A rejection by how many wait: by lot, which counts them, beside in the order of asking."""
    made = []
    for count in counts:
        ours, theirs = (crowded(count, each, selection) for selection in ("random", "iterate"))
        what = f"cycle-request of a full cycle, {count:.0e} waiting, by lot"
        cells = f"{ours:.2f} ms", f"{theirs:.2f} ms, as they ask"
        made.append(Line(what, *cells, ours / theirs, (ours / theirs,) * 2, math.inf))
    return made


def plans(workers: int) -> list[Line]:
    """How the queries are answered on a grid with so many workers."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with running("grid", folder=folder) as grid:
            host(grid.port, "m-0", state(FLOATS), max_diffs=10**7, do_not_reuse_workers_until_cycle=1)
        fill(folder, workers)
        return explained(folder, "m-0", FLOATS, f"{workers:.0e} workers")


def run(options: Options) -> list[Line]:
    """The table's lines."""
    models, workers = (MODELS[:1], WORKERS[:1]) if options.smoke else (MODELS, WORKERS)
    each, rounds = (3, 1) if options.smoke else (60, 3)
    return [
        *compare([(f"{n} models", n, 1000) for n in models], each, rounds),
        *compare([(f"{n:.0e} workers", 1, n) for n in workers], each, rounds),
        *herds(workers, each),
        *plans(workers[-1]),
    ]
