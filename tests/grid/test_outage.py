"""The database goes away while workers report: nobody hears 500, nothing acknowledged is lost, all go on."""

import asyncio
import contextlib
import json
import re
import time

import httpx
import pytest
from websockets.asyncio.client import connect

from fedplan import Syft
from fedplan.errors import CycleRejectedError
from fedplan.grid.store import replicas
from fedplan.grid.web.replies import RETRY_SECONDS, STORAGE_FAULT
from tests.grid.databases import database_of
from tests.grid.models import diff
from tests.grid.peers import Peer
from tests.grid.postgresql import cluster, needs_postgresql
from tests.processes import Process

pytestmark = needs_postgresql

WORKERS, PLACES, CYCLES = 6, 4, 4
VALUES = [float(2**bit) for bit in range(PLACES * CYCLES)]
"""One for each report, so that a checkpoint tells which reports made it."""

AWAY_SECONDS = 1.0

PROGRAM = """
from pathlib import Path
from fedplan.grid import Settings, serve
settings = Settings(data_dir=Path({folder!r}), database_url={database!r}, poll_seconds=0.05,
                    lease_seconds=1.0, retry_seconds=0.5)
serve(settings, port=0, on_ready=lambda port: print(port, flush=True))
"""


@pytest.fixture
def postgresql():
    with cluster() as made:
        yield made


@contextlib.asynccontextmanager
async def grid_process(folder, database):
    """The address of a grid in a process of its own; its log goes to a file."""
    program = PROGRAM.format(folder=str(folder), database=database)
    with (folder / "log").open("w") as log, Process("-c", program, stderr=log) as running:
        try:
            yield f"127.0.0.1:{int(await asyncio.to_thread(running.stdout.readline))}"
        finally:
            running.kill()


async def work(url, values, acknowledged):
    """Reports one value after the other, each in a cycle of its own, as often as the client itself tries."""
    async with Syft(url) as syft:
        while values:
            value = values.pop()
            job = syft.new_job("m", "1.0")
            with contextlib.closing(job):
                while not job.plans:  # it is in no cycle yet
                    try:
                        await job.start()
                    except CycleRejectedError as rejected:
                        await asyncio.sleep(rejected.timeout)
                await job.report(diff(value))
                acknowledged.append(value)


async def ask_all_the_time(address, worker_id, heard):
    """The status over HTTP, and cycle requests over WebSocket: by fedplan's client, and by another."""
    request = {"worker_id": worker_id, "model": "n", "version": "1.0"}
    frame = {"type": "model-centric/cycle-request", "data": request}
    frames = {"ours": json.dumps({**frame, "tell_status": True}), "other": json.dumps(frame)}
    async with (
        httpx.AsyncClient(base_url=f"http://{address}") as http,
        connect(f"ws://{address}/", user_agent_header="fedplan/1") as ours,
        connect(f"ws://{address}/", user_agent_header="okhttp/4") as other,
    ):
        while True:
            reply = await http.get("/model-centric/status", timeout=60)
            heard["http"].append((reply.status_code, reply.headers.get("retry-after"), reply.json()))
            for name, socket in (("ours", ours), ("other", other)):
                await socket.send(frames[name])
                heard[name].append(json.loads(await socket.recv()))
            await asyncio.sleep(0.02)


async def outages(postgresql, acknowledged):
    """It crashes, is cut off, and is started again in order, each after some more reports."""
    for reports, end in (
        (3, postgresql.kill),
        (7, lambda: postgresql.stop("immediate")),
        (11, postgresql.stop),
    ):
        while len(acknowledged) < reports:
            await asyncio.sleep(0.002)
        await asyncio.to_thread(end)
        await asyncio.sleep(AWAY_SECONDS)
        await asyncio.to_thread(postgresql.start)


async def test_a_database_that_goes_away_while_workers_report_costs_no_report(tmp_path, postgresql):
    database = await database_of(tmp_path, postgresql.url)
    async with (
        grid_process(tmp_path, database) as address,
        httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as http,
    ):
        peer = Peer(http)
        await peer.host(
            server={"max_workers": PLACES, "max_diffs": PLACES, "pool_selection": "iterate"},
            model=diff(0.0),
        )
        await peer.host("n")
        heard, acknowledged, values = {"http": [], "ours": [], "other": []}, [], VALUES[::-1]
        asking = asyncio.create_task(ask_all_the_time(address, await peer.authenticate("n"), heard))
        async with asyncio.TaskGroup() as group:
            for number in range(WORKERS):
                scheme = ("http", "ws")[number % 2]
                group.create_task(work(f"{scheme}://{address}", values, acknowledged))
            group.create_task(outages(postgresql, acknowledged))
        await peer.until_checkpoint(1 + CYCLES)
        asking.cancel()
        await asyncio.wait([asking])
        assert asking.cancelled()  # and has not failed before

        assert sorted(acknowledged) == VALUES
        sums = []
        before = await peer.checkpoint(checkpoint="1")
        for number in range(2, 2 + CYCLES):
            after = await peer.checkpoint(checkpoint=str(number))
            sums.append(int((before[1] - after[1])[0] * PLACES))
            before = after
        assert [total.bit_count() for total in sums] == [PLACES] * CYCLES
        assert sum(sums) == sum(VALUES)

        counted = await http.get("/metrics")
    outcomes = set(re.findall(r'fedplan_requests_total.*outcome="(\d+)".*transport="(\w+)"', counted.text))
    outcomes.discard(("304", "http"))  # Plans that a worker has
    assert outcomes == {("200", "http"), ("200", "ws"), ("503", "http"), ("503", "ws")}
    later = f"{RETRY_SECONDS[503]}"
    assert {(status, after) for status, after, _ in heard["http"]} == {(200, None), (503, later)}
    refused = {"error": STORAGE_FAULT}
    told = {"status": 503, "retry_after": RETRY_SECONDS[503]}
    for name, beside in (("ours", told), ("other", {})):
        refusals = [answer for answer in heard[name] if "error" in answer["data"]]
        assert 0 < len(refusals) < len(heard[name])
        for answer in refusals:
            assert answer == {"type": "model-centric/cycle-request", "data": refused, **beside}


async def test_heartbeat_and_closer_go_on_when_the_database_is_back(tmp_path, postgresql, open_grid, caplog):
    database = await database_of(tmp_path, postgresql.url)
    options = {"database_url": database, "lease_seconds": 0.5}
    async with open_grid(**options) as one, open_grid(**options) as two:
        await one.host(server={"cycle_length": 1.0, "min_diffs": 1})
        assert (await (await one.join()).report(1)).status_code == 200
        postgresql.kill()
        assert (await one.http.get("/healthz")).status_code == 200
        reply = await one.http.get("/readyz")
        assert reply.status_code == 503
        assert reply.json()["database"] == "cannot be read or written"
        assert reply.json()["blobs"] == "ok"
        await asyncio.sleep(2)
        postgresql.start()
        began = time.monotonic()
        await two.until_checkpoint(2)
        assert time.monotonic() - began < 5
        assert (await one.http.get("/readyz")).status_code == 200
        grids = [peer.app.state.grid for peer in (one, two)]

        async def counters():
            async with grids[0].store.reading() as db:
                return await replicas.counters(db)

        before = await counters()
        await asyncio.sleep(1)
        after = await counters()
        assert all(after[grid.replica] > before[grid.replica] for grid in grids)
        assert [len(grid.others) for grid in grids] == [1, 1]
    assert "DatabaseUnavailableError" in caplog.text or "ConnectionRefusedError" in caplog.text
    assert "Traceback" not in caplog.text
