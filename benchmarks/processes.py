"""Two processes of a grid behind one port, beside one: reports, places and whole sessions.

Generator and grid share the cores, so a rate says little where there are only two. What is claimed is that
a call costs the grid no more of its processors' time. FEDPLAN_DATABASE_URL may name a PostgreSQL; each grid
gets a database of its own there, which is dropped at the end. By default each has an SQLite file.
"""

import asyncio
import contextlib
import os
import statistics
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

from benchmarks import load
from benchmarks.grid_calls import CLIENTS, joined
from benchmarks.line import Line, Options
from benchmarks.load import cpu_seconds, join, lines, sent, spread
from benchmarks.models import FLOATS, host, state
from benchmarks.rows import of_other
from benchmarks.servers import Server, running
from benchmarks.timing import quartiles

SERVER = os.environ.get("FEDPLAN_DATABASE_URL", "")
ROUNDS = 5

_MOST_MORE = 1.15
"""How much more of the processors' time two processes may take than one: noise."""

Calls = Callable[[int, int], Awaitable[float]]
"""Makes so many calls at a port; how many there were in a second."""


async def _on_server(statement: str) -> None:
    url = make_url(SERVER).set(drivername="postgresql+asyncpg")
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT")
    async with engine.connect() as connection:
        await connection.execute(text(statement))
    await engine.dispose()


@contextlib.contextmanager
def _database(name: str) -> Iterator[str | None]:
    """An empty database on the server that is named, if one is."""
    if not SERVER:
        yield None
        return
    asyncio.run(_on_server(f"CREATE DATABASE {name}"))
    try:
        yield make_url(SERVER).set(database=name).render_as_string(hide_password=False)
    finally:
        asyncio.run(_on_server(f"DROP DATABASE {name} WITH (FORCE)"))


def _family(pid: int) -> list[int]:
    """A process and those that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += _family(int(child))
    return found


def _busy(server: Server) -> float:
    """Seconds that a grid's processes have computed, in the kernel too."""
    return sum(sum(cpu_seconds(pid)) for pid in _family(server.pid))


def _calls(diff: bytes) -> dict[str, Calls]:
    async def reports(port: int, count: int) -> float:
        workers = await joined(port, "open", count)
        async with lines(port, CLIENTS) as made:
            return await spread(made, [worker.binary_report(diff) for worker in workers], sent)

    async def places(port: int, count: int) -> float:
        async def one(line: load.Line, _: Any) -> None:
            await join(line, "open")

        async with lines(port, CLIENTS) as made:
            return await spread(made, range(count), one)

    async def sessions(port: int, count: int) -> float:
        async def one(line: load.Line, _: Any) -> None:
            worker = await join(line, "open")
            await sent(line, worker.get_model())
            await sent(line, worker.get_plan())
            await sent(line, worker.binary_report(diff))

        async with lines(port, CLIENTS) as made:
            return await spread(made, range(count), one)

    return {
        "place and report of 1.25 MB as bytes": reports,
        "authenticate + cycle-request": places,
        "whole session, report as bytes": sessions,
    }


async def _compared(what: str, calls: Calls, grids: list[Server], options: Options) -> list[Line]:
    """The rates of two processes and of one, in turns, and what a call cost each grid."""
    count = CLIENTS if options.smoke else 120
    rates: list[list[float]] = [[] for _ in grids]
    costs: list[list[float]] = [[] for _ in grids]
    for turn in range(options.rounds(ROUNDS) + 1):
        for grid, rate, cost in zip(grids, rates, costs, strict=True):
            before = _busy(grid)
            measured = await calls(grid.port, count)
            if turn or options.smoke:  # the first one warms up
                rate.append(measured)
                cost.append(1e3 * (_busy(grid) - before) / count)
    two, one = (f"{statistics.median(cost):.3g} ms" for cost in costs)
    ratios = [more / less for more, less in zip(*costs, strict=True)]
    middle = statistics.median(ratios)
    return [
        Line(f"{what}: processors' time", two, f"{one}, one process", middle, quartiles(ratios), _MOST_MORE),
        of_other(f"{what}: rate", 0, rates[0], rates[1], "one process"),
    ]


def run(options: Options) -> list[Line]:
    """The table's lines."""
    model, diff = state(FLOATS["1.25 MB"]), state(FLOATS["1.25 MB"], 0.001)
    where = "PostgreSQL" if SERVER else "SQLite"
    with contextlib.ExitStack() as stack:
        grids = []
        for kind in ("two", "grid"):
            database = stack.enter_context(_database(f"fedplan_bench_{kind}"))
            grids.append(stack.enter_context(running(kind, database=database)))
            host(grids[-1].port, "open", model, max_diffs=1_000_000)
        made = []
        for what, calls in _calls(diff).items():
            made += asyncio.run(_compared(f"{where}, {what}", calls, grids, options))
    return made
