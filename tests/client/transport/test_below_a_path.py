"""The client and a grid that stands behind a proxy, below a path, as nginx's `location /grid/ {…}` has it.

The proxy passes bytes on over real sockets. It serves what is below /grid/ and nothing else.
"""

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from fedplan.client import ModelCentricFLClient, Retry, Syft, participate
from fedplan.errors import GridConnectionError, GridResponseError
from fedplan.grid import Settings, create_app
from fedplan.plan import model_parameters
from tests.client.small_grid import serve
from tests.client.training_cases import BATCH, make_data, make_module, make_plan

IMAGES, LABELS = make_data()


class Proxy:
    """Passes requests for /grid/… on to a server as requests for /…, each on a connection of its own.

    Attributes:
        asked: the first line of each request.
        url: where it listens.
    """

    def __init__(self, behind: str) -> None:
        host, port = behind.removeprefix("http://").split(":")
        self._behind = (host, int(port))
        self.asked: list[str] = []
        self.url = ""

    async def serve(self, listener: socket.socket, ended: asyncio.Event) -> None:
        async with await asyncio.start_server(self._answer, sock=listener):
            await ended.wait()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            first, *headers = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            verb, path, version = first.split()
            self.asked.append(f"{verb} {path.partition('?')[0]}")
            if path.startswith("/grid/"):
                if not any(line.lower().startswith("upgrade:") for line in headers):
                    headers = [line for line in headers if not line.lower().startswith("connection:")]
                    headers.insert(0, "Connection: close")
                head = "\r\n".join([f"{verb} {path.removeprefix('/grid')} {version}", *headers])
                await self._pass_on(head.encode(), reader, writer)
            elif path.partition("?")[0] == "/grid":
                writer.write(redirect(f"{self.url}/grid/").encode())
            else:
                writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        with contextlib.suppress(ConnectionError):
            await writer.drain()
            writer.close()

    async def _pass_on(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, to = await asyncio.open_connection(*self._behind)
        to.write(head)
        await asyncio.gather(pour(reader, to), pour(there, writer))


async def pour(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while chunk := await reader.read(65536):
            writer.write(chunk)
            await writer.drain()
    writer.close()


def redirect(url: str) -> str:
    return f"HTTP/1.1 301 Moved\r\nLocation: {url}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    settings = Settings(data_dir=tmp_path_factory.mktemp("grid"), poll_seconds=0.05, retry_seconds=1)
    listener = socket.create_server(("127.0.0.1", 0))
    loop, ended = asyncio.new_event_loop(), asyncio.Event()
    with serve(create_app(settings)) as behind:
        proxy = Proxy(behind)
        proxy.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread = threading.Thread(target=loop.run_until_complete, args=(proxy.serve(listener, ended),))
        thread.start()
        yield proxy
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


@pytest.fixture(autouse=True)
def _forget(proxy: Proxy) -> None:
    proxy.asked.clear()


def host(owner: ModelCentricFLClient, name: str, **server_config: Any) -> None:
    owner.host_federated_training(
        make_module(),
        {"training_plan": make_plan()},
        {"name": name, "version": "1", "batch_size": BATCH, "lr": 0.1},
        {"max_diffs": 1, "num_cycles": 1, **server_config},
        variants=(),
    )


@pytest.mark.some(2)
@pytest.mark.parametrize(
    ("url", "websocket"),
    [("ws:/grid/", "/grid/"), ("ws:/grid//", "/grid/"), ("http:/grid/", None), ("http:/grid", None)],
)
def test_a_cycle_is_trained_below_a_path(proxy: Proxy, url: str, websocket: str | None) -> None:
    scheme, _, path = url.partition(":")
    name, url = f"cycle {scheme}{path}", proxy.url.replace("http", scheme) + path
    with ModelCentricFLClient(url) as owner:
        host(owner, name, minimum_upload_speed=0.001)
        participate(url, name, "1", IMAGES, LABELS, verbose=True, progress=False)
        owner.wait(name, "1", checkpoint=2, timeout=60)
        trained = owner.retrieve_model(name, "1")
    params, lr = model_parameters(make_module()), torch.tensor([0.1])
    for x, y in zip(IMAGES.split(BATCH), LABELS.split(BATCH), strict=True):
        params = make_plan()(x, y, lr, *params)[2:]
    for ours, grids in zip(params, trained.params, strict=True):
        torch.testing.assert_close(ours, grids, rtol=0, atol=1e-6)
    paths = {line.split()[1] for line in proxy.asked}
    assert all(path.startswith("/grid/") and "//" not in path for path in paths)
    assert {"/grid/model-centric/report", "/grid/model-centric/speed-test"} <= paths
    assert ("GET /grid/" in proxy.asked) is (websocket is not None)


async def test_a_websocket_to_the_path_without_its_slash_is_told_where_to_go(proxy: Proxy) -> None:
    url = proxy.url.replace("http", "ws") + "/grid"
    async with Syft(url, verbose=True, retry=Retry(attempts=1)) as syft:
        with pytest.raises(GridConnectionError, match=f"has moved to {proxy.url}/grid/: use that URL"):
            await syft.new_job("m", "1").start()
    assert proxy.asked == ["GET /grid"]


def test_outside_of_the_path_there_is_no_grid(proxy: Proxy) -> None:
    with ModelCentricFLClient(proxy.url) as owner, pytest.raises(GridResponseError, match="404"):
        owner.status()
    assert proxy.asked == ["GET /model-centric/status"]
