"""A load generator that costs little itself: raw HTTP/1.1 over kept sockets, to 127.0.0.1 only."""

import asyncio
import base64
import contextlib
import dataclasses
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from typing import Any

HOST = "127.0.0.1"
_BUFFER_BYTES = 4 * 1024 * 1024


class Line:
    """One connection that is kept open. Use `line`."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._loop = asyncio.get_running_loop()
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))

    async def exchange(self, request: bytes) -> tuple[int, memoryview]:
        """Sends a request; returns the status and the body, which is good until the next call."""
        await self._loop.sock_sendall(self._socket, request)
        filled, end = 0, -1
        while end < 0:
            filled += await self._receive(filled)
            end = bytes(self._buffer[: min(filled, 4096)]).find(b"\r\n\r\n")
        head = bytes(self._buffer[:end]).lower()
        start = end + 4
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        if start + length > len(self._buffer):
            await self._skip(start + length - filled)
            return int(head[9:12]), memoryview(b"")
        while filled < start + length:
            filled += await self._receive(filled)
        return int(head[9:12]), self._buffer[start : start + length]

    async def _skip(self, left: int) -> None:
        while left:
            left -= await self._receive(0, left)

    async def _receive(self, at: int, most: int | None = None) -> int:
        room = self._buffer[at:] if most is None else self._buffer[at : at + most]
        count = await self._loop.sock_recv_into(self._socket, room)
        if not count:
            raise ConnectionError("the server closed the connection")
        return count

    def close(self) -> None:
        """Closes the connection."""
        self._socket.close()


@contextlib.asynccontextmanager
async def lines(port: int, count: int) -> AsyncIterator[list[Line]]:
    """That many connections to a server of this machine."""
    made: list[Line] = []
    try:
        for _ in range(count):
            opened = socket.create_connection((HOST, port), timeout=10)
            opened.setblocking(False)
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            made.append(Line(opened))
        yield made
    finally:
        for one in made:
            one.close()


def post(path: str, body: bytes, *headers: str, kind: str = "application/json") -> bytes:
    """A POST request, whole."""
    more = "".join(f"{header}\r\n" for header in headers)
    head = (
        f"POST {path} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: fedplan/bench\r\ncontent-type: {kind}\r\n"
        f"content-length: {len(body)}\r\n{more}\r\n"
    )
    return head.encode() + body


def get(path: str, **query: object) -> bytes:
    """A GET request, whole."""
    asked = "&".join(f"{key}={value}" for key, value in query.items())
    return f"GET {path}?{asked} HTTP/1.1\r\nhost: {HOST}\r\nuser-agent: fedplan/bench\r\n\r\n".encode()


async def say(line: Line, call: str, **message: object) -> dict[str, Any]:
    """One small call of the protocol, answered well."""
    status, body = await line.exchange(post(f"/model-centric/{call}", json.dumps(message).encode()))
    if status != 200:
        raise RuntimeError(f"{call}: {status} {bytes(body)!r}")
    answer: dict[str, Any] = json.loads(bytes(body))
    return answer


@dataclasses.dataclass(frozen=True)
class Taken:
    """A worker in a cycle."""

    worker_id: str
    request_key: str
    model_id: int
    plans: dict[str, int]

    def json_report(self, encoded: str) -> bytes:
        """Its report as the clients' base64 JSON."""
        keys = f'{{"worker_id":"{self.worker_id}","request_key":"{self.request_key}","diff":"'
        return post("/model-centric/report", (keys + encoded + '"}').encode())

    def binary_report(self, diff: bytes) -> bytes:
        """Its report as a binary body."""
        path = f"/model-centric/report?worker_id={self.worker_id}&request_key={self.request_key}"
        return post(path, diff, kind="application/octet-stream")

    def get_model(self) -> bytes:
        """Its download of the model."""
        return get("/model-centric/get-model", **self._keys(), model_id=self.model_id)

    def get_plan(self) -> bytes:
        """Its download of the Plan."""
        return get("/model-centric/get-plan", **self._keys(), plan_id=next(iter(self.plans.values())))

    def _keys(self) -> dict[str, str]:
        return {"worker_id": self.worker_id, "request_key": self.request_key}


async def join(line: Line, name: str) -> Taken:
    """Authenticates and asks for the cycle."""
    worker = (await say(line, "authenticate", model_name=name, model_version="1.0"))["worker_id"]
    answer = await say(line, "cycle-request", worker_id=worker, model=name, version="1.0")
    if answer["status"] != "accepted":
        raise RuntimeError(f"the worker was not accepted: {answer}")
    return Taken(worker, answer["request_key"], answer["model_id"], answer["plans"])


async def spread(
    made: Sequence[Line], work: Sequence[Any], do: Callable[[Line, Any], Awaitable[Any]]
) -> float:
    """Gives each piece of work to the next free connection; returns pieces a second."""
    left = iter(work)

    async def serve(line: Line) -> None:
        for piece in left:
            await do(line, piece)

    started = time.perf_counter()
    await asyncio.gather(*(serve(line) for line in made))
    return len(work) / (time.perf_counter() - started)


async def sent(line: Line, request: bytes) -> None:
    """Sends a request that must be answered well."""
    status, body = await line.exchange(request)
    if status != 200:
        raise RuntimeError(f"{status} {bytes(body)[:300]!r}")


def base64_of(data: bytes) -> str:
    """As the clients send it."""
    return base64.b64encode(data).decode()


@contextlib.contextmanager
def idle_memory(pid: int) -> Iterator[Callable[[], int]]:
    """Resets a process's peak; gives a function for the bytes that it rose above what it holds now."""
    with open(f"/proc/{pid}/clear_refs", "w") as refs:
        refs.write("5")
    before = _memory(pid, "VmRSS")
    yield lambda: _memory(pid, "VmHWM") - before


def _memory(pid: int, key: str) -> int:
    with open(f"/proc/{pid}/status") as status:
        return 1024 * next(int(row.split()[1]) for row in status if row.startswith(key))


def cpu_seconds(pid: int) -> tuple[float, float]:
    """What a process has computed so far: in its own code, and in the kernel for it."""
    with open(f"/proc/{pid}/stat") as stat:
        fields = stat.read().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[11]) / ticks, int(fields[12]) / ticks
