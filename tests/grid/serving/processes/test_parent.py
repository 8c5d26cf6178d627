"""A grid of two processes on one port, over real sockets: cycles, kills, and how it ends."""

import asyncio
import contextlib
import functools
import multiprocessing
import os
import re
import signal
import socket
import time

import httpx
import pytest

from fedplan.errors import GridProcessError, SettingsError
from fedplan.grid import Settings, serve_in_processes
from fedplan.grid.serving.processes import parent
from tests.grid.databases import database_of
from tests.grid.models import diff
from tests.grid.peers import Peer, Worker
from tests.grid.postgresql import cluster, needs_postgresql
from tests.grid.serving.processes.running import grid_of_two, lives, pids
from tests.grid.serving.test_server import served

WORKERS, PLACES, CYCLES = 6, 4, 4
VALUES = [float(2**bit) for bit in range(PLACES * CYCLES)]
"""One for each report, so that a checkpoint tells which reports made it."""


async def until(true):
    async with asyncio.timeout(60):
        while not true():
            await asyncio.sleep(0.005)


async def again(call):
    """The answer to a call that is repeated while its connections break."""
    while True:
        try:
            return await call()
        except httpx.TransportError:
            await asyncio.sleep(0.02)


async def work(url, values, acknowledged):
    """Reports one value after the other, each in a cycle of its own, over a connection that is kept."""
    async with httpx.AsyncClient(base_url=url, timeout=60) as http:
        peer = Peer(http)
        while values:
            value = values.pop()
            worker_id = await again(peer.authenticate)
            ask = functools.partial(peer.ask, worker_id)
            while (answer := await again(ask))["status"] != "accepted":
                await asyncio.sleep(0.02)
            reply = await again(functools.partial(Worker(peer, worker_id, answer).report, value))
            assert reply.status_code == 200, reply.text
            acknowledged.append(value)


async def kill_one(folder, acknowledged):
    """The first process is killed in the middle, and another one starts."""
    await until(lambda: len(acknowledged) >= PLACES + 1)
    os.kill(pids(folder)[0], signal.SIGKILL)
    await until(lambda: len(pids(folder)) == 3)


async def expect_whole_cycles(folder, database):
    """Of what workers report while a process is killed, everything acknowledged is in one checkpoint."""
    with grid_of_two(folder, database) as running:
        async with served(running) as peer:
            model = {"max_workers": PLACES, "max_diffs": PLACES, "pool_selection": "iterate"}
            await peer.host(server=model, model=diff(0.0))
            acknowledged, values = [], VALUES[::-1]
            async with asyncio.TaskGroup() as group:
                for _ in range(WORKERS):
                    group.create_task(work(str(peer.http.base_url), values, acknowledged))
                group.create_task(kill_one(folder, acknowledged))
            await peer.until_checkpoint(1 + CYCLES)
            sums, before = [], await peer.checkpoint(checkpoint="1")
            for number in range(2, 2 + CYCLES):
                after = await peer.checkpoint(checkpoint=str(number))
                sums.append(int((before[1] - after[1])[0] * PLACES))
                before = after
            counted = (await peer.http.get("/metrics")).text
        running.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(running.communicate, timeout=60)
    assert sorted(acknowledged) == VALUES
    assert [total.bit_count() for total in sums] == [PLACES] * CYCLES
    assert sum(sums) == sum(VALUES)
    # what the killed process counted is there; it may have ended before it counted a report, or answered it
    accepted = float(re.search(r'fedplan_reports_total\{outcome="accepted"\} (\S+)', counted)[1])
    assert len(VALUES) - WORKERS <= accepted <= len(VALUES) + WORKERS
    killed = rf"ERROR process \d of 2 \(pid {pids(folder)[0]}\) was ended by SIGKILL; another one starts in"
    assert re.search(killed, errors)
    assert running.returncode == -signal.SIGTERM
    assert not any(map(lives, pids(folder)))


async def test_a_killed_process_is_replaced_and_no_acknowledged_report_is_lost(tmp_path):
    await expect_whole_cycles(tmp_path, await database_of(tmp_path, tables=True))


@needs_postgresql
async def test_so_it_is_on_postgresql(tmp_path):
    with cluster() as postgresql:
        await expect_whole_cycles(tmp_path, await database_of(tmp_path, postgresql.url))


async def connections(url, count):
    """So many connections, each of which has been used and is kept."""
    stack = contextlib.AsyncExitStack()
    for _ in range(count):
        http = await stack.enter_async_context(httpx.AsyncClient(base_url=url, timeout=60))
        assert (await http.get("/healthz")).status_code == 200
    return stack


def sockets(pid):
    """How many sockets a process has open."""
    return sum(os.readlink(f).startswith("socket:") for f in _descriptors(pid))


def _descriptors(pid):
    with os.scandir(f"/proc/{pid}/fd") as found:
        return [entry.path for entry in found]


async def test_connections_are_shared_out_counts_are_added_up_and_ctrl_c_ends_all(tmp_path):
    with grid_of_two(tmp_path, await database_of(tmp_path, tables=True)) as running:
        async with served(running) as peer:
            one, other = pids(tmp_path)
            before = sockets(one) - sockets(other)
            async with await connections(peer.http.base_url, 20):
                assert abs(sockets(one) - sockets(other) - before) <= 6
            for _ in range(2):  # whichever is asked
                counted = (await peer.http.get("/metrics", headers={"connection": "close"})).text
                answered = 'fedplan_requests_total{call="healthz",outcome="200",transport="http"} 20.0'
                assert answered in counted
            began = time.monotonic()
            running.send_signal(signal.SIGINT)
            out, errors = await asyncio.to_thread(running.communicate, timeout=60)
            assert time.monotonic() - began < 10
        assert (running.returncode, out, errors) == (0, "", "")
        (line,) = "".join((tmp_path / f"{pid}.out").read_text() for pid in (one, other)).splitlines()
        assert line.startswith("secrets in the database are not encrypted")  # said once, not by each
        assert not any(map(lives, (one, other)))


async def test_one_that_is_told_to_end_is_replaced_and_all_end_when_the_parent_is_killed(tmp_path):
    with grid_of_two(tmp_path, await database_of(tmp_path, tables=True)) as running:
        async with served(running):
            os.kill(pids(tmp_path)[0], signal.SIGTERM)
            await until(lambda: len(pids(tmp_path)) == 3)
            ended, *found = pids(tmp_path)
            assert not lives(ended)
            assert all(map(lives, found))
            running.kill()
            await until(lambda: not any(map(lives, found)))


async def test_one_that_hangs_is_killed_and_replaced(tmp_path):
    with grid_of_two(tmp_path, await database_of(tmp_path, tables=True), look=0.15) as running:
        async with served(running) as peer:
            hanging = pids(tmp_path)[0]
            os.kill(hanging, signal.SIGSTOP)
            await until(lambda: not lives(hanging) and len(pids(tmp_path)) >= 3)
            assert (await again(functools.partial(peer.http.get, "/healthz"))).status_code == 200
        running.send_signal(signal.SIGTERM)
        _, errors = await asyncio.to_thread(running.communicate, timeout=60)
    assert re.search(rf"process \d of 2 \(pid {hanging}\) has answered nothing for 2 s and is ended", errors)
    assert re.search(rf"\(pid {hanging}\) was ended by SIGKILL; another one starts", errors)


# What does not start


@pytest.fixture
def forks(monkeypatch):
    """The processes start at once; so does the next one after one that ended."""
    monkeypatch.setattr(parent, "CONTEXT", multiprocessing.get_context("forkserver"))
    monkeypatch.setattr(parent, "_FIRST_PAUSE", 0.001)


def test_an_address_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve_in_processes(2, port=taken.getsockname()[1])


def test_processes_that_end_at_once_again_and_again_are_given_up(tmp_path, forks, caplog):
    with pytest.raises(GridProcessError, match=r"ended with the exit code 3; that is 5 times in a row"):
        serve_in_processes(2, Settings(data_dir=tmp_path), port=0, prepare=functools.partial(os._exit, 3))
    assert "another one starts" in caplog.text
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"database_url": "sqlite://"}, "a database of its own in memory"),
        ({"blob_url": "memory://"}, "blobs of its own in memory"),
    ],
)
def test_what_is_in_one_process_alone_cannot_be_shared(tmp_path, forks, settings, why):
    with pytest.raises(SettingsError, match=why):
        serve_in_processes(2, Settings(data_dir=tmp_path, **settings), port=0)


def test_there_is_one_at_least():
    with pytest.raises(SettingsError, match="one process at least, and not 0"):
        serve_in_processes(0)
