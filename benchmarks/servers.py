"""The two servers of the measurements, each a process of its own: a grid, and the floor under it."""

import argparse
import contextlib
import dataclasses
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import uvicorn

from fedplan.grid import Settings, serve
from fedplan.grid.serve import uvicorn_config


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
def running(kind: str, *arguments: str, folder: Path | None = None) -> Iterator[Server]:
    """A server in a process of its own: `grid`, or `floor` and how many bytes it sends."""
    with contextlib.ExitStack() as stack:
        where = folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        command = [sys.executable, "-m", "benchmarks.servers", kind, str(where), *arguments]
        process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stack.callback(process.kill)
        assert process.stdout is not None
        yield Server(int(process.stdout.readline()), process.pid, where)


def bare(size: int) -> Any:
    """An ASGI app that reads any body, or any message, and answers: a GET with that many bytes."""
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
            while (await receive())["type"] == "websocket.receive":
                await send({"type": "websocket.send", "text": "{}"})
            return
        pieces = []
        while True:
            message = await receive()
            pieces.append(message.get("body", b""))
            if not message.get("more_body"):
                break
        body = payload if scope["method"] == "GET" else b'{"status":"success"}'
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def _tell(port: int) -> None:
    print(port, flush=True)


def _floor(settings: Settings, size: int) -> None:
    config = uvicorn_config(settings, bare(size))

    class Told(uvicorn.Server):
        async def startup(self, sockets: Any = None) -> None:
            await super().startup(sockets)
            _tell(self.servers[0].sockets[0].getsockname()[1])

    config.port = 0
    Told(config).run()


def main() -> None:
    """Serves until it is killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=("grid", "floor"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("size", type=int, nargs="?", default=0)
    given = parser.parse_args()
    settings = Settings(data_dir=given.folder)
    if given.kind == "floor":
        _floor(settings, given.size)
    else:
        serve(settings, port=0, on_ready=_tell)


if __name__ == "__main__":
    main()
