"""Connections that mean harm, against a grid in a process of its own: others are answered, memory stays."""

import asyncio
import base64
import contextlib
import os
import struct
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from tests.cli.conftest import fedplan_process
from tests.grid.models import hosting, no_plan, state

MEGABYTE = 1_000_000
HANDSHAKE = (
    "GET / HTTP/1.1\r\nhost: {}\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
    "sec-websocket-version: 13\r\nsec-websocket-key: {}\r\n\r\n"
)
TEXT, MORE, PING, CLOSE = 0x1, 0x0, 0x9, 0x8
READING = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")


class Server:
    """A grid that runs in a process of its own."""

    def __init__(self, process):
        self.process = process
        self.url = process.stdout.readline().strip()
        self.address = self.url.removeprefix("http://")

    def memory(self):
        """Bytes that it holds now."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        (line,) = (line for line in lines if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024

    @contextlib.asynccontextmanager
    async def connection(self, **options):
        reader, writer = await asyncio.open_connection(*self.address.split(":"), **options)
        try:
            yield reader, writer
        finally:
            writer.transport.abort()

    @contextlib.asynccontextmanager
    async def socket(self):
        async with self.connection() as (reader, writer):
            key = base64.b64encode(os.urandom(16)).decode()
            writer.write(HANDSHAKE.format(self.address, key).encode())
            head = await reader.readuntil(b"\r\n\r\n")
            assert b" 101 " in head
            yield reader, writer

    async def slowest_answer(self, until):
        """The longest that another client waits for an answer, until an event."""
        slowest = 0.0
        async with httpx.AsyncClient(base_url=self.url, timeout=30) as http:
            while not until.is_set():
                started = time.perf_counter()
                assert (await http.get("/healthz")).status_code == 200
                slowest = max(slowest, time.perf_counter() - started)
                await asyncio.sleep(0.01)
        return slowest


@contextlib.contextmanager
def running(folder, **settings):
    environment = {f"FEDPLAN_{name.upper()}": str(value) for name, value in settings.items()}
    with fedplan_process("serve", "--port", 0, "--data", folder, **environment) as process:
        yield Server(process)


def frame(kind, payload=b"", *, final=True, size=None):
    """A client's frame; with a size, only its beginning: so much more of it is announced."""
    length = len(payload) if size is None else size
    head = bytes([(0x80 if final else 0) | kind])
    if length < 126:
        head += bytes([0x80 | length])
    else:
        head += bytes([0x80 | 127]) + struct.pack("!Q", length)
    return head + bytes(4) + payload  # a mask of zeros


async def closing_code(reader):
    """Why the grid ends a WebSocket; None when it only breaks off."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            kind, length = await reader.readexactly(2)
            payload = await reader.readexactly(length & 127)
            if kind & 0x0F == CLOSE:
                return struct.unpack("!H", payload[:2])[0]
    return None


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    bounds = {"max_pending_bytes": 24 * MEGABYTE, "stall_seconds": 1.0, "head_seconds": 0.5}
    with running(tmp_path_factory.mktemp("grid"), **bounds) as server:
        yield server


def big_model(name, elements):
    model = state(np.zeros(elements, np.float32))
    return hosting(name, model=model, plans={"p": no_plan().hex()})


@pytest.mark.parametrize("kind", ["empty fragments", "pings"])
async def test_a_flood_of_frames_ends_its_connection_and_holds_up_nobody(server, kind):
    begin, flood = (
        (b"", frame(PING)) if kind == "pings" else (frame(TEXT, final=False), frame(MORE, final=False))
    )
    over = asyncio.Event()
    watching = asyncio.create_task(server.slowest_answer(over))
    until = time.monotonic() + 2
    while time.monotonic() < until:
        async with server.socket() as (_, writer):
            writer.write(begin)
            with contextlib.suppress(ConnectionError):
                for _ in range(50):
                    writer.write(flood * 20_000)
                    await writer.drain()
    over.set()
    assert await watching < 3  # of a grid without this bound: 9 s


async def test_who_sends_too_many_frames_is_told_so(server):
    async with server.socket() as (reader, writer):
        writer.write(frame(PING) * 900)
        await asyncio.sleep(0.3)
        assert not reader.at_eof()
        writer.write(frame(PING) * 3000)
        assert await closing_code(reader) == 1008


@READING
async def test_messages_that_do_not_end_take_no_more_room_than_there_is(server):
    async with contextlib.AsyncExitStack() as stack:
        sockets = [await stack.enter_async_context(server.socket()) for _ in range(12)]
        before = server.memory()
        for _, writer in sockets:
            writer.write(frame(TEXT, bytes(15 * MEGABYTE), size=100 * MEGABYTE))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        ended = [asyncio.create_task(closing_code(reader)) for reader, _ in sockets]
        await asyncio.wait(ended, timeout=2)
        codes = [task.result() for task in ended if task.done()]
        assert server.memory() - before < 80 * MEGABYTE  # of a grid without this bound: 180 MB and more
        assert len(codes) == 11  # one message has room
        async with server.socket() as (reader, writer):
            writer.write(frame(TEXT, bytes(12 * MEGABYTE), size=13 * MEGABYTE))
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            async with asyncio.timeout(10):
                assert await closing_code(reader) in (1013, None)  # None where it was still writing
        for task in ended:
            task.cancel()
    async with httpx.AsyncClient(base_url=server.url) as http:  # all room is given back
        reply = await http.post("/model-centric/host-training", json=big_model("room", 2_000_000))
        assert reply.status_code == 200, reply.text


@READING
async def test_readers_that_do_not_read_cost_no_copies_and_are_cut_off(server):
    query = {"name": "unread", "version": "1.0"}
    ask = "GET /model-centric/retrieve-model?name=unread&version=1.0 HTTP/1.1\r\nhost: {}\r\n\r\n"
    async with httpx.AsyncClient(base_url=server.url) as http:
        reply = await http.post("/model-centric/host-training", json=big_model("unread", 2_000_000))
        assert reply.status_code == 200, reply.text
        await http.get("/model-centric/retrieve-model", params=query)
    async with contextlib.AsyncExitStack() as stack:
        before = server.memory()
        readers = []
        for _ in range(30):
            reader, writer = await stack.enter_async_context(server.connection(limit=1024))
            writer.write(ask.format(server.address).encode())
            readers.append(reader)
        await asyncio.sleep(0.5)
        assert server.memory() - before < 60 * MEGABYTE  # 30 copies would take 240 MB
        await asyncio.sleep(1.5)
        for reader in readers:
            with contextlib.suppress(ConnectionError):
                assert len(await reader.read()) < 8 * MEGABYTE  # it never came whole


async def test_a_slow_reader_gets_everything(server):
    query, received = {"name": "slow", "version": "1.0"}, 0
    async with httpx.AsyncClient(base_url=server.url) as http:
        await http.post("/model-centric/host-training", json=big_model("slow", 500_000))
        async with http.stream("GET", "/model-centric/retrieve-model", params=query) as reply:
            size = int(reply.headers["content-length"])
            async for piece in reply.aiter_raw(100_000):
                received += len(piece)
                await asyncio.sleep(0.1)
    assert (reply.status_code, received) == (200, size)


@pytest.mark.parametrize("sent", [b"", b"GET /healthz HTT"], ids=["nothing", "half a head"])
async def test_a_connection_that_does_not_say_what_it_wants_is_closed(server, sent):
    async with server.connection() as (reader, writer):
        writer.write(sent)
        started = time.monotonic()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        assert time.monotonic() - started < 4


async def test_the_second_head_of_a_connection_must_come_too(server):
    async with server.connection() as (reader, writer):
        writer.write(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        assert b" 200 " in await reader.readuntil(b"\r\n\r\n")
        writer.write(b"GET /heal")
        started = time.monotonic()
        await asyncio.wait_for(reader.read(), 5)
        assert time.monotonic() - started < 4


async def test_a_connection_that_asks_again_and_again_is_kept(server):
    async with httpx.AsyncClient(base_url=server.url) as http:
        for _ in range(4):
            assert (await http.get("/healthz")).status_code == 200
            await asyncio.sleep(0.25)


async def test_connections_beyond_the_limits_are_turned_away(tmp_path):
    with running(tmp_path, max_connections=4, max_connections_per_address=3) as server:
        async with contextlib.AsyncExitStack() as stack:

            async def answers(address):
                """Whether one more connection from an address is served; if so, it stays open."""
                reader, _ = await stack.enter_async_context(server.connection(local_addr=(address, 0)))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(0.5):
                        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                    assert head.startswith(b"HTTP/1.1 503 ")
                    assert b"retry-after" in head
                    assert b"as many connections as it can hold" in body
                    return False
                return True

            await stack.enter_async_context(server.socket())  # a WebSocket counts once
            assert [await answers("127.0.0.1") for _ in range(3)] == [True, True, False]
            assert [await answers("127.0.0.2") for _ in range(2)] == [True, False]
        await asyncio.sleep(0.2)
        async with httpx.AsyncClient(base_url=server.url) as http:  # they have gone, so there is room again
            assert (await http.get("/healthz")).status_code == 200
