"""Replays what a client sends, byte for byte over real sockets, and holds each answer against its shape.

A conversation is a list of steps. In requests, ``<name>`` stands for something known: the grid's host, the
model's name, or what an earlier answer held. In shapes, a type stands for any value of just this type (1 is
no float, True no int), `New` for one that is remembered, and anything else for itself; an object holds
exactly the keys given.
"""

import asyncio
import contextlib
import dataclasses
import json
import re
from collections.abc import Sequence
from itertools import chain, repeat
from typing import Any

PATIENCE = 10
"""Seconds after which the clients give up."""


# What answers look like


@dataclasses.dataclass(frozen=True)
class New:
    """A value of a type, known by a name from now on."""

    name: str
    type: type


AUTHENTICATED = {"status": "success", "worker_id": New("worker_id", str), "requires_speed_test": False}
ASKED_FOR_SPEED = AUTHENTICATED | {"requires_speed_test": True}
ACCEPTED = {
    "status": "accepted",
    "model": "<model>",
    "version": "1.0",
    "request_key": New("request_key", str),
    "plans": {"training_plan": New("plan_id", int)},
    "protocols": {"handshake": New("protocol_id", int)},
    "client_config": {"name": "<model>", "version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1},
    "model_id": New("model_id", int),
}
REJECTED = {"status": "rejected", "timeout": int}
REJECTED_FOR_GOOD = {"status": "rejected"}
REPORTED = {"status": "success"}
REFUSED = {"error": str}


# Steps


@dataclasses.dataclass(frozen=True)
class Request:
    """An HTTP request: ``GET /path``, the header lines as they are sent, and the body."""

    line: str
    head: str
    body: str | bytes = ""


@dataclasses.dataclass(frozen=True)
class Answer:
    """An HTTP answer: its status, what its body is, and headers that it must have, as patterns."""

    status: int
    body: Any = None
    """The shape of an object, or a function of the bytes that raises when they are not right."""
    headers: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Ask:
    """A request on the client's HTTP connection, and its answer."""

    request: Request
    answer: Answer


@dataclasses.dataclass(frozen=True)
class Together:
    """Requests at the same time, each on a connection of its own."""

    steps: Sequence[Ask]


@dataclasses.dataclass(frozen=True)
class Open:
    """A new WebSocket; the old one, if there is one, was dropped without a word."""

    head: str
    path: str = "/"


@dataclasses.dataclass(frozen=True)
class Say:
    """A text message, in one frame or in fragments of these sizes, and the answer to it."""

    text: str
    hear: Any
    fragments: Sequence[int] = ()


@dataclasses.dataclass(frozen=True)
class Ping:
    """A control frame; the pong brings its payload back."""

    payload: bytes


Step = Ask | Together | Open | Say | Ping


# The replayer


async def replay(steps: Sequence[Step], server: str, known: dict[str, Any]) -> None:
    """Goes through a conversation.

    Args:
        steps: what the client sends, and what it must hear.
        server: the grid's address.
        known: what ``<names>`` stand for; grows.
    """
    known["host"] = server
    async with contextlib.AsyncExitStack() as open_lines:
        http = await open_lines.enter_async_context(Line.to(server))
        socket = None
        for number, step in enumerate(steps):
            try:
                async with asyncio.timeout(PATIENCE):
                    if isinstance(step, Ask):
                        await _ask(http, step, known)
                    elif isinstance(step, Together):
                        await asyncio.gather(*(_ask_alone(server, each, known) for each in step.steps))
                    elif isinstance(step, Open):
                        if socket is not None:
                            socket.drop()
                        socket = await open_lines.enter_async_context(Line.to(server))
                        await _open(socket, step, known)
                    elif isinstance(step, Say):
                        await socket.send_text(fill(step.text, known), step.fragments)
                        match(step.hear, json.loads(await socket.frame(0x1)), known)
                    else:
                        await socket.send_frame(0x89, step.payload)
                        assert await socket.frame(0xA) == step.payload
            except (AssertionError, TimeoutError, asyncio.IncompleteReadError) as error:
                error.add_note(f"in step {number}: {str(step)[:500]}")
                raise


def fill(text: str, known: dict[str, Any]) -> str:
    """A text with what its names stand for."""
    return re.sub(r"<(\w+)>", lambda name: str(known[name[1]]), text)


def match(shape: Any, value: Any, known: dict[str, Any], where: str = "the answer") -> None:
    """Holds a value against a shape."""
    if isinstance(shape, New):
        match(shape.type, value, known, where)
        known[shape.name] = value
    elif isinstance(shape, type):
        assert type(value) is shape, f"{where} is {value!r}"
    elif isinstance(shape, dict):
        assert isinstance(value, dict), f"{where} is {value!r}"
        assert value.keys() == shape.keys(), f"{where} is {value!r}"
        for key, inner in shape.items():
            match(inner, value[key], known, f"{where}, {key}")
    else:
        expected = fill(shape, known) if isinstance(shape, str) else shape
        assert (type(value), value) == (type(expected), expected), where


async def _ask_alone(server: str, step: Ask, known: dict[str, Any]) -> None:
    async with Line.to(server) as line:
        await _ask(line, step, known)


async def _ask(line: "Line", step: Ask, known: dict[str, Any]) -> None:
    request, answer = step.request, step.answer
    body = request.body if isinstance(request.body, bytes) else fill(request.body, known).encode()
    await line.send_head(request.line, request.head, known | {"length": len(body)}, body)
    status, headers = await line.head()
    assert status == answer.status
    for name, value in answer.headers.items():
        assert re.fullmatch(value, headers.get(name, "")), f"{name}: {headers.get(name)}"
    assert "content-encoding" not in headers
    content = await line.body(headers)
    if callable(answer.body):
        answer.body(content)
    elif answer.body is not None:
        assert headers["content-type"] == "application/json"
        match(answer.body, json.loads(content), known)


async def _open(socket: "Line", step: Open, known: dict[str, Any]) -> None:
    key, proof = "dGhlIHNhbXBsZSBub25jZQ==", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, section 1.3
    await socket.send_head(f"GET {step.path}", step.head, known | {"key": key})
    status, headers = await socket.head()
    assert status == 101
    assert headers["upgrade"].lower() == "websocket"
    assert headers["connection"].lower() == "upgrade"
    assert headers["sec-websocket-accept"] == proof
    assert "sec-websocket-extensions" not in headers  # offered or not, none is used


class Line:
    """A TCP connection that carries HTTP, and WebSocket frames after an upgrade."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, server: str):
        host, port = server.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            yield cls(reader, writer)
        finally:
            writer.close()

    def drop(self) -> None:
        self._writer.transport.abort()

    async def send_head(self, line: str, head: str, known: dict[str, Any], body: bytes = b"") -> None:
        lines = [f"{line} HTTP/1.1", *head.strip().splitlines(), "", ""]
        self._writer.write(fill("\r\n".join(lines), known).encode() + body)
        await self._writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        raw = (await self._reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = raw.rstrip("\r\n").split("\r\n")
        version, status, _ = first.split(" ", 2)
        assert version == "HTTP/1.1"
        return int(status), {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def body(self, headers: dict[str, str]) -> bytes:
        return await self._reader.readexactly(int(headers["content-length"]))

    async def send_text(self, text: str, fragments: Sequence[int]) -> None:
        data = text.encode()
        sizes, at, opcode = chain(fragments, repeat(fragments[-1] if fragments else len(data))), 0, 0x01
        while at < len(data) or opcode:
            piece = data[at : at + next(sizes)]
            at += len(piece)
            await self.send_frame(opcode | (0x80 if at == len(data) else 0), piece)
            opcode = 0

    async def send_frame(self, first: int, payload: bytes) -> None:
        size, mask = len(payload), b"\x37\xfa\x21\x3d"
        if size < 126:
            length = bytes([0x80 | size])
        else:
            length = b"\xfe" + size.to_bytes(2, "big") if size < 2**16 else b"\xff" + size.to_bytes(8, "big")
        stream = (mask * (size // 4 + 1))[:size]
        masked = (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")
        self._writer.write(bytes([first]) + length + mask + masked)
        await self._writer.drain()

    async def frame(self, opcode: int) -> bytes:
        """The payload of the next frame, which must be whole, without extension bits, and of this kind."""
        first, size = await self._reader.readexactly(2)
        assert first == 0x80 | opcode
        assert size < 0x80  # servers do not mask
        if size > 125:
            size = int.from_bytes(await self._reader.readexactly(2 if size == 126 else 8), "big")
        return await self._reader.readexactly(size)
