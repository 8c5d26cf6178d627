"""The server as a process of its own: it starts, it ends when told to, and it survives being killed."""

import asyncio
import contextlib
import os
import resource
import signal
import socket

import httpx
import numpy as np
import pytest

from fedplan.errors import ConfigError
from fedplan.grid import Settings, serve
from fedplan.grid.serving.server import uvicorn_config
from tests.grid.models import MODEL
from tests.grid.peers import Peer
from tests.processes import Process

PROGRAM = """
from pathlib import Path
from fedplan.grid import Settings, serve
settings = Settings(
    data_dir=Path({folder!r}), database_url={database!r}, poll_seconds=0.05, lease_seconds={lease}
)
serve(settings, port=0, on_ready=lambda port: print(port, flush=True))
"""


@contextlib.contextmanager
def process(folder, database=None, lease=0.5):
    """A server in a process of its own, with its standard output, over the folder's database or another."""
    with Process("-c", PROGRAM.format(folder=str(folder), database=database, lease=lease)) as running:
        try:
            yield running
        finally:
            running.kill()


@contextlib.asynccontextmanager
async def served(running):
    port = int(await asyncio.to_thread(running.stdout.readline))
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60) as http:
        yield Peer(http)


async def test_an_acknowledged_report_survives_a_kill(tmp_path):
    with process(tmp_path) as running:
        async with served(running) as peer:
            await peer.host(server={"max_diffs": 2})
            worker = await peer.join()
            last = await peer.join()
            assert (await worker.report(1)).status_code == 200
            os.kill(running.pid, signal.SIGKILL)
    with process(tmp_path) as running:
        async with served(running) as peer:
            assert (await peer.status())["cycle"]["reported"] == 1
            assert (await continued(peer, worker).report(5)).status_code == 409
            assert (await continued(peer, last).report(3)).status_code == 200
            await peer.until_checkpoint(2)
            for new, old in zip(await peer.checkpoint(), MODEL, strict=True):
                np.testing.assert_allclose(new, old - 2)
        await expect_end(running, signal.SIGTERM)


async def test_of_many_reports_at_once_each_acknowledged_one_survives_a_kill(tmp_path):
    """They share commits: none may be answered before the commit that holds it."""
    with process(tmp_path) as running:
        async with served(running) as peer:
            await peer.host(server={"max_diffs": 60})
            workers = [await peer.join() for _ in range(60)]

            async def send(worker, value):
                with contextlib.suppress(httpx.HTTPError):
                    return (await worker.report(value)).status_code
                return None

            sending = [asyncio.create_task(send(worker, 1)) for worker in workers]
            await asyncio.wait(sending, return_when=asyncio.FIRST_COMPLETED)
            os.kill(running.pid, signal.SIGKILL)
            answers = await asyncio.gather(*sending)
    assert 200 in answers
    with process(tmp_path) as running:
        async with served(running) as peer:
            for worker, answer in zip(workers, answers, strict=True):
                again = continued(peer, worker)
                if answer == 200:  # it is known, and not counted twice
                    assert (await again.report(2)).status_code == 409
                assert (await again.report(1)).status_code == 200
            await peer.until_checkpoint(2)
            np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 1)


async def test_a_cycle_that_was_closing_is_closed_after_a_kill(tmp_path):
    with process(tmp_path) as running:
        async with served(running) as peer:
            await peer.host(server={"max_diffs": 1})
            assert (await (await peer.join()).report(1)).status_code == 200
            os.kill(running.pid, signal.SIGKILL)
    with process(tmp_path) as running:
        async with served(running) as peer:
            await peer.until_checkpoint(2)
            np.testing.assert_allclose((await peer.checkpoint())[1], MODEL[1] - 1)
        await expect_end(running, signal.SIGINT)


def continued(peer, worker):
    """The worker, talking to another server."""
    return type(worker)(peer, worker.worker_id, worker.accepted)


async def expect_end(running, number):
    """A signal ends the server in order."""
    running.send_signal(number)
    out, errors = await asyncio.to_thread(running.communicate, timeout=20)
    assert (out, errors) == ("", "")
    assert running.returncode in (0, -number)


def test_an_address_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(OSError, match="in use"):
        serve(port=taken.getsockname()[1])


def test_a_store_that_cannot_be_opened_is_an_error(tmp_path, caplog):
    (tmp_path / "grid.db").write_text("a text, where SQLite looks for its header, and finds none")
    with pytest.raises(ConfigError, match=r"grid\.db' cannot be opened: .*not a database.*FEDPLAN_DATA_DIR"):
        serve(Settings(data_dir=tmp_path), port=0)
    assert not caplog.records


class TestOpenFiles:
    """Each connection takes one, and so do the database and the blobs."""

    def most(self, **settings):
        config = uvicorn_config(Settings(max_connections=1000, **settings), None, lambda: None)
        return config.bounds.peers._most_here

    @pytest.fixture
    def raised(self, monkeypatch):
        """The limit that is asked for."""
        raised = []
        monkeypatch.setattr(resource, "setrlimit", lambda _, limits: raised.append(limits))
        return raised

    def test_are_allowed_for_as_many_connections_as_there_may_be(self, monkeypatch, raised):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (300, resource.RLIM_INFINITY))
        assert self.most() == 1000
        assert raised == [(1100, resource.RLIM_INFINITY)]

    def test_limit_the_connections_where_no_more_are_allowed(self, monkeypatch, raised, caplog):
        monkeypatch.setattr(resource, "getrlimit", lambda _: (300, 400))
        assert self.most() == 300
        assert raised == [(400, 400)]
        assert "takes 300 connections at most and not 1000: raise the limit (ulimit -n)" in caplog.text
