import asyncio
import contextlib
import socket
import threading

import httpx
import pytest
import uvicorn

from fedplan.grid import Settings, create_app
from fedplan.grid.service import closing
from fedplan.grid.serving.server import uvicorn_config

from .databases import database_of, drop_databases
from .peers import Peer


@contextlib.asynccontextmanager
async def grid_at(folder, *, clock=None, wall=None, draw=None, **settings):
    """A grid in this process, and a peer that reaches it without sockets.

    Args:
        folder: of its data, and of its database.
        clock: the time, in place of all clocks.
        wall: the time on the wall alone: when it jumps, no time has passed.
        draw: lots.
        settings: how it runs.
    """
    if "database_url" not in settings:
        settings["database_url"] = await database_of(folder, tables=True)
    settings = {
        "data_dir": folder,
        "poll_seconds": 0.05,
        "retry_seconds": 3.0,
    } | settings
    functions = {"wall": wall or clock, "monotonic": clock, "draw": draw}
    app = create_app(
        Settings(**settings), **{name: function for name, function in functions.items() if function}
    )
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://grid") as http,
    ):
        peer = Peer(http)
        peer.app = app
        yield peer


@pytest.fixture(scope="session", autouse=True)
def databases():
    yield
    asyncio.run(drop_databases())


@pytest.fixture
async def peer(tmp_path):
    async with grid_at(tmp_path) as peer:
        yield peer


@pytest.fixture
def open_grid(tmp_path):
    """Opens grids, on one folder unless told otherwise, with other settings, clocks or lots."""

    def opener(folder=tmp_path, **options):
        return grid_at(folder, **options)

    return opener


@pytest.fixture
def may_average(monkeypatch):
    """While this event is not set, grids of this process that close a cycle wait before they average it."""
    may, made = asyncio.Event(), closing.average

    async def average(*arguments):
        await may.wait()
        return await made(*arguments)

    monkeypatch.setattr(closing, "average", average)
    return may


@pytest.fixture(scope="session")
def server(tmp_path_factory):
    """The address of a real server, such as 127.0.0.1:51234."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("grid"), poll_seconds=0.05, retry_seconds=1.0)
    with serving(settings) as address:
        yield address


@contextlib.contextmanager
def serving(settings, *, haste=1, port=0):
    """A real server in a thread, with the configuration that `serve` gives uvicorn; yields its address.

    It pings WebSockets `haste` times as often as usual, and waits for the answer that much shorter.
    """
    app = create_app(settings)
    config = uvicorn_config(settings, app, lambda: app.state.grid.intake)
    config.ws_ping_interval /= haste
    config.ws_ping_timeout /= haste
    with socket.create_server(("127.0.0.1", port)) as listener:
        running = uvicorn.Server(config)
        thread = threading.Thread(target=running.run, args=([listener],))
        thread.start()
        try:
            while not running.started:
                assert thread.is_alive()
            yield "{}:{}".format(*listener.getsockname())
        finally:
            app.state.grid.ending.set()  # as `serve` does it
            running.should_exit = True
            thread.join()


@pytest.fixture
async def http(server):
    async with httpx.AsyncClient(base_url=f"http://{server}") as client:
        yield client
