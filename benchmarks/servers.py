"""The servers of the measurements, each a process of its own: a grid, and two bare apps beside it."""

import argparse
import contextlib
import dataclasses
import os
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pybase64
import uvicorn
from pydantic_core import from_json

from fedplan.grid import Settings, serve, serve_in_processes
from fedplan.grid.blobs.logs import Logs
from fedplan.grid.service.presence import Presence
from fedplan.grid.serving.server import uvicorn_config
from fedplan.grid.web.intake import Intake
from fedplan.wire import State


@dataclasses.dataclass(frozen=True)
class Server:
    """A server that runs.

    Attributes:
        port: where it listens.
        pid: its process.
        folder: where a grid keeps what it knows.
    """

    port: int
    pid: int
    folder: Path


@contextlib.contextmanager
def running(
    kind: str, *arguments: str, folder: Path | None = None, database: str | None = None
) -> Iterator[Server]:
    """A server in a process of its own.

    Args:
        kind: `grid`; `two`, one of two processes; `unaware`, a grid that knows of no other replica; `floor`
            or `necessary`.
        arguments: of the last two, how many bytes they send.
        folder: of a grid; one of its own by default.
        database: of a grid; what the environment says by default.
    """
    with contextlib.ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-m", "benchmarks.servers", kind, str(where), *arguments]
        env = os.environ | ({} if database is None else {"FEDPLAN_DATABASE_URL": database})
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)  # nosec B603  # ours
        stack.enter_context(process)
        stack.callback(process.terminate if kind == "two" else process.kill)  # the two end with their parent
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid, where)


def necessary(folder: Path) -> Callable[[bytes], Awaitable[None]]:
    """What no grid can do without: a report is read, checked, brought to the disk and added up."""
    logs = Logs(folder)
    sums: list[Any] = []

    async def take(body: bytes) -> None:
        if body[:1] == b"{":
            message = from_json(body)
            body = pybase64.b64decode(message.get("data", message)["diff"])  # over WebSocket, or over HTTP
        tensors = [tensor.array for tensor in State.parse(body).tensors]
        if not all(np.isfinite(tensor).all() for tensor in tensors):
            raise ValueError("NaN")
        await logs.append("diffs", body)
        sums.extend(np.zeros(tensor.shape) for tensor in tensors[len(sums) :])
        for total, tensor in zip(sums, tensors, strict=True):
            np.add(total, tensor, out=total)

    return take


def bare(size: int, work: Callable[[bytes], Awaitable[None]] | None = None) -> Any:
    """An ASGI app that reads any body, or any message, and answers: a GET with that many bytes.

    Args:
        size: how many.
        work: what it does with a body first, if anything.
    """
    payload = bytes(size)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            while (await receive())["type"] != "lifespan.shutdown":
                await send({"type": "lifespan.startup.complete"})
            await send({"type": "lifespan.shutdown.complete"})
            return
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            while (message := await receive())["type"] == "websocket.receive":
                if work is not None:
                    await work(message["text"].encode())
                await send({"type": "websocket.send", "text": "{}"})
            return
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        if scope["method"] == "POST" and work is not None:
            await work(b"".join(pieces))
        body = payload if scope["method"] == "GET" else b'{"status":"success"}'
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _tell(port: int) -> None:
    print(port, flush=True)


async def _nothing(presence: Presence) -> None:
    """In place of what replicas tell each other: each then adds up what the others took, from their diffs."""


def _bare(settings: Settings, app: Any) -> None:
    intake = Intake(settings.max_pending_bytes)
    config = uvicorn_config(settings, app, lambda: intake)

    class Told(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            _tell(self.servers[0].sockets[0].getsockname()[1])

    config.port = 0
    Told(config).run()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("grid", "two", "unaware", "floor", "necessary"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int, nargs="?", default=0)
    given = parser.parse_args()
    settings = Settings(data_dir=given.folder, requests_per_address=0)  # all load comes from one address
    if given.kind == "floor":
        _bare(settings, bare(given.size))
    elif given.kind == "necessary":
        _bare(settings, bare(given.size, necessary(given.folder)))
    elif given.kind == "two":
        serve_in_processes(2, settings, port=0, on_ready=_tell)
    else:
        if given.kind == "unaware":
            setattr(Presence, "tell", _nothing)  # noqa: B010  # a type checker would not have it
        serve(settings, port=0, on_ready=_tell)


if __name__ == "__main__":
    main()
