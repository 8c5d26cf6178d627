"""Taking connections from a shared socket: a process that has more than the others lets them ask first."""

import asyncio
import contextlib
import errno
import socket

import pytest

from fedplan.grid.serving.processes import accepting
from fedplan.grid.serving.processes.accepting import Accepting
from fedplan.grid.serving.together import Held


class Made(asyncio.Protocol):
    """Counts the connections of one taker."""

    def __init__(self, found, held):
        self._found, self._held = found, held

    def connection_made(self, transport):
        self._found.append(transport)
        self._held.add(1)


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0), backlog=100) as listener:
        listener.setblocking(False)
        yield listener


@contextlib.asynccontextmanager
async def taking(listener, parts=None, own=0):
    """The connections of a taker, as they come; the parts of all are how many each has."""
    found, held = [], Held([0] if parts is None else parts, own)
    taker = Accepting(listener, lambda: Made(found, held), None, held, 1 if parts is None else len(parts))
    taker.begin()
    yield found
    taker.end()
    for transport in found:
        transport.abort()


@contextlib.contextmanager
def clients(listener, count):
    with contextlib.ExitStack() as stack:
        for _ in range(count):
            stack.enter_context(socket.create_connection(listener.getsockname()))
        yield


async def until(true):
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.001)


async def test_a_burst_is_shared_out(listener):
    """Without that, whoever is first takes all of it."""
    parts = [0, 0]
    with clients(listener, 40), listener.dup() as shared:
        shared.setblocking(False)
        async with taking(listener, parts, 0) as mine, taking(shared, parts, 1) as others:
            await until(lambda: len(mine) + len(others) == 40)
            assert abs(len(mine) - len(others)) <= 6


async def test_who_has_fewer_is_asked_first(listener):
    parts = [20, 0]
    with clients(listener, 20), listener.dup() as shared:
        shared.setblocking(False)
        async with taking(listener, parts, 0) as mine, taking(shared, parts, 1) as others:
            await until(lambda: len(mine) + len(others) == 20)
            assert len(others) >= 17


async def test_what_nobody_else_takes_is_taken(listener):
    with clients(listener, 100):
        async with taking(listener, [50, 0]) as found:
            await until(lambda: len(found) == 100)


async def test_where_no_file_can_be_opened_it_goes_on_later(listener, monkeypatch, caplog):
    monkeypatch.setattr(accepting, "_SCARCE_SECONDS", 0.01)

    class Scarce:
        refusals = 0

        def fileno(self):
            return listener.fileno()

        def accept(self):
            self.refusals += 1
            if self.refusals < 3:
                raise OSError(errno.EMFILE, "Too many open files")
            return listener.accept()

    with clients(listener, 1):
        async with taking(Scarce()) as found:
            await until(lambda: found)
    assert "no connection can be taken, for the moment: Too many open files" in caplog.text


async def test_a_client_that_is_gone_again_is_no_error(listener):
    with clients(listener, 3):
        pass
    async with taking(listener):
        with clients(listener, 1):
            await asyncio.sleep(0.05)
