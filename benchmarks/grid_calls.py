"""What the grid answers a second, beside two bare ASGI apps under the same uvicorn on the same cores.

The floor reads the same body, or sends the same bytes, and does nothing else. The other app does with a
report what no grid can do without, and nothing else: see `benchmarks.servers.necessary`.
"""

import asyncio
import dataclasses
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from websockets.asyncio.client import connect

from benchmarks import load
from benchmarks.line import Line, Options
from benchmarks.load import HOST, Taken, base64_of, get, join, lines, say, sent, spread
from benchmarks.models import FLOATS, host, state
from benchmarks.rows import at_least, at_most, of_other
from benchmarks.servers import Server, running

Rate = Callable[[], Awaitable[float]]
NOBODY = Taken("w" * 72, "k" * 43, 1, {})
CLIENTS = 8
ROUNDS = 5
MODEL = FLOATS["1.25 MB"]


async def joined(port: int, name: str, count: int) -> list[Taken]:
    """So many workers, in a model's cycle."""
    taken: list[Taken] = []
    async with lines(port, CLIENTS) as made:

        async def one(line: load.Line, _: int) -> None:
            taken.append(await join(line, name))

        await spread(made, range(count), one)
    return taken


async def _rate(port: int, requests: Sequence[bytes]) -> float:
    async with lines(port, CLIENTS) as made:
        return await spread(made, requests, sent)


@dataclasses.dataclass(frozen=True)
class Servers:
    """What is measured side by side."""

    grid: Server
    floor: Server
    necessary: Server


async def _alternate(options: Options, *sides: Rate) -> list[list[float]]:
    """Rates of each side, measured in turns."""
    rates: list[list[float]] = [[] for _ in sides]
    for _ in range(options.rounds(ROUNDS)):
        for side, measured in zip(sides, rates, strict=True):
            measured.append(await side())
    return rates


BARE, NECESSARY = "a bare app", "an app that only stores and adds up"


def _few(options: Options, count: int) -> int:
    return CLIENTS if options.smoke else count


async def reports(servers: Servers, diff: bytes, options: Options, *, binary: bool) -> list[Line]:
    """Reports of fresh workers."""
    encoded, each = base64_of(diff), _few(options, 100)

    def request(worker: Taken) -> bytes:
        return worker.binary_report(diff) if binary else worker.json_report(encoded)

    async def ours() -> float:
        workers = await joined(servers.grid.port, "open", each)
        return await _rate(servers.grid.port, [request(worker) for worker in workers])

    def theirs(server: Server) -> Rate:
        return lambda: _rate(server.port, [request(NOBODY)] * each)

    measured = await _alternate(options, ours, theirs(servers.floor), theirs(servers.necessary))
    rates, floor, necessary = measured
    kind, least, wanted = ("bytes", 0.6, 350) if binary else ("JSON", 0.5, 220)
    return [
        of_other(f"report as {kind}", least, rates, floor, BARE),
        of_other(f"report as {kind}, beside what it needs", 0, rates, necessary, NECESSARY),
        at_least(f"report as {kind}, alone", wanted, statistics.median(rates), "1/s"),
    ]


async def reports_over_sockets(servers: Servers, diff: bytes, options: Options) -> list[Line]:
    """Reports over WebSockets, beside the bare app's JSON bodies over HTTP."""
    encoded, each = base64_of(diff), _few(options, 60)

    def frame(worker: Taken) -> str:
        data = {"worker_id": worker.worker_id, "request_key": worker.request_key, "diff": encoded}
        return json.dumps({"type": "model-centric/report", "data": data})

    async def talk(port: int, frames: Sequence[str]) -> float:
        left = iter(frames)

        async def serve() -> float:
            async with connect(f"ws://{HOST}:{port}/", compression=None, max_size=None) as socket:
                started = time.perf_counter()
                for text in left:
                    await socket.send(text)
                    answer = json.loads(await socket.recv())
                    if "error" in answer.get("data", {}):
                        raise RuntimeError(str(answer))
                return started

        started = min(await asyncio.gather(*(serve() for _ in range(CLIENTS))))
        return len(frames) / (time.perf_counter() - started)

    async def ours() -> float:
        workers = await joined(servers.grid.port, "open", each)
        return await talk(servers.grid.port, [frame(worker) for worker in workers])

    async def over_http() -> float:
        return await _rate(servers.floor.port, [NOBODY.json_report(encoded)] * each)

    def over_socket(server: Server) -> Rate:
        return lambda: talk(server.port, [frame(NOBODY)] * each)

    measured = await _alternate(
        options, ours, over_http, over_socket(servers.floor), over_socket(servers.necessary)
    )
    rates, http, socket, necessary = measured
    what = "report over WebSocket"
    return [
        of_other(f"{what}, beside HTTP", 0.35, rates, http, BARE),
        of_other(f"{what}, beside WebSocket", 0.35, rates, socket, BARE),
        of_other(f"{what}, beside what it needs", 0, rates, necessary, NECESSARY),
    ]


async def downloads(servers: Servers, size: int, options: Options) -> list[Line]:
    """The model, again and again."""
    worker, each = (await joined(servers.grid.port, "open", 1))[0], _few(options, 400)

    async def ours() -> float:
        return await _rate(servers.grid.port, [worker.get_model()] * each)

    async def bare() -> float:
        return await _rate(servers.floor.port, [get("/model")] * each)

    rates, floor = await _alternate(options, ours, bare)
    bandwidth = statistics.median(rates) * size / 1e9
    return [
        of_other("get-model", 0.6, rates, floor, BARE),
        at_least("get-model, alone", 1.0, bandwidth, "GB/s"),
    ]


async def joining(grid: Server, options: Options) -> list[Line]:
    """Authenticate and cycle-request."""
    each = _few(options, 600)

    async def one(line: load.Line, _: Any) -> None:
        await join(line, "open")

    rates = []
    for _ in range(options.rounds(ROUNDS)):
        async with lines(grid.port, CLIENTS) as made:
            rates.append(await spread(made, range(each), one))
    return [at_least("authenticate + cycle-request", 1000, statistics.median(rates), "pairs/s")]


async def sessions(grid: Server, diff: bytes, options: Options, *, binary: bool) -> list[Line]:
    """Whole sessions of workers."""
    encoded, each = base64_of(diff), _few(options, 60)

    async def one(line: load.Line, _: Any) -> None:
        worker = await join(line, "open")
        await sent(line, worker.get_model())
        await sent(line, worker.get_plan())
        await sent(line, worker.binary_report(diff) if binary else worker.json_report(encoded))

    rates = []
    for _ in range(options.rounds(ROUNDS)):
        async with lines(grid.port, CLIENTS) as made:
            rates.append(await spread(made, range(each), one))
    kind = "binary" if binary else "JSON"
    return [at_least(f"whole sessions, reports as {kind}", 100, statistics.median(rates), "1/s")]


async def small_calls_under_load(grid: Server, diff: bytes, options: Options) -> list[Line]:
    """How long an authenticate and a cycle-request take while 32 reports are in flight."""
    encoded, times = base64_of(diff), []
    for _ in range(options.rounds(6)):
        workers = await joined(grid.port, "open", 160)
        async with lines(grid.port, 33) as (small, *large):
            work = asyncio.create_task(spread(large, [w.json_report(encoded) for w in workers], sent))
            while not work.done():
                started = time.perf_counter()
                answer = await say(small, "authenticate", model_name="open", model_version="1.0")
                times.append(time.perf_counter() - started)
                started = time.perf_counter()
                await say(small, "cycle-request", worker_id=answer["worker_id"], model="open", version="1.0")
                times.append(time.perf_counter() - started)
            await work
    times.sort()
    what = f"of {len(times)} small calls while 32 reports are in flight"
    return [
        at_most(f"p99 {what}", 50, 1e3 * times[int(0.99 * len(times))], "ms"),
        at_most(f"median {what}", 50, 1e3 * times[len(times) // 2], "ms"),
    ]


async def keep_alive(grid: Server, options: Options) -> list[Line]:
    """Small calls that follow each other on one connection: none may wait for an acknowledgement (40 ms)."""
    times, each = [], _few(options, 500)
    async with lines(grid.port, 1) as (line,):
        for _ in range(each):
            started = time.perf_counter()
            await say(line, "authenticate", model_name="open", model_version="1.0")
            times.append(time.perf_counter() - started)
    times.sort()
    return [at_most("authenticate, one after the other, p95", 20, 1e3 * times[int(0.95 * each)], "ms")]


async def measure(options: Options, only: Sequence[str] = ()) -> list[Line]:
    """All of it, or the named parts."""
    model, diff = state(MODEL), state(MODEL, 0.001)
    rows: list[Line] = []
    size = str(len(model))
    with running("grid") as grid, running("floor", size) as floor, running("necessary", size) as necessary:
        servers = Servers(grid, floor, necessary)
        host(grid.port, "open", model, max_diffs=1_000_000)
        parts: dict[str, Callable[[], Awaitable[list[Line]]]] = {
            "json": lambda: reports(servers, diff, options, binary=False),
            "binary": lambda: reports(servers, diff, options, binary=True),
            "socket": lambda: reports_over_sockets(servers, diff, options),
            "model": lambda: downloads(servers, len(model), options),
            "joining": lambda: joining(grid, options),
            "sessions": lambda: sessions(grid, diff, options, binary=False),
            "binary-sessions": lambda: sessions(grid, diff, options, binary=True),
            "tail": lambda: small_calls_under_load(grid, diff, options),
            "keep-alive": lambda: keep_alive(grid, options),
        }
        for name, part in parts.items():
            if not only or name in only:
                rows += await part()
    return rows


def run(options: Options) -> list[Line]:
    """The table's lines."""
    return asyncio.run(measure(options))
