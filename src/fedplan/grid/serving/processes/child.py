"""One of the processes of a grid: what it does once all that it needs is loaded."""

import asyncio
import contextlib
import pickle
import socket
from multiprocessing.connection import Connection

import uvicorn
from fastapi import FastAPI
from sqlalchemy import make_url

from fedplan.errors import ConfigError, FedplanError, SettingsError
from fedplan.grid.app import create_app
from fedplan.grid.averaging.apart import memory_of_machine
from fedplan.grid.serving.processes.accepting import Accepting
from fedplan.grid.serving.processes.starting import READY, Order
from fedplan.grid.serving.server import GridServer, uvicorn_config
from fedplan.grid.serving.together import Together
from fedplan.grid.settings import Settings
from fedplan.grid.store.engine import is_in_memory

_LEAST_AVERAGING_BYTES = 1024 * 1024


def serve_one(order: Order) -> None:
    """Serves until it is told to end, or the parent is gone. Why it cannot is told to the parent."""
    try:
        _check_can_be_shared(order.settings)
        together = order.board.of(order.number)
        settings = share_of(order.settings, together.processes)
        app = create_app(settings, together=together)
        config = uvicorn_config(settings, app, lambda: app.state.grid.intake, together)
        server = _SharingServer(config, app, order.listener, order.parent, together)
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once all is closed
            server.run(sockets=[order.listener])
    except (FedplanError, OSError, ModuleNotFoundError) as error:
        with contextlib.suppress(OSError):  # the parent is gone
            order.parent.send(_that_travels(error))


def share_of(settings: Settings, processes: int) -> Settings:
    """The settings of one of so many processes: a part of the memory that all may take.

    What peers send, and their connections, are counted over all processes instead: nobody knows at which of
    them they arrive.
    """
    averaging = settings.averaging_bytes or memory_of_machine() // 4
    shares = {
        "remembered_bytes": settings.remembered_bytes // processes,
        "sums_bytes": settings.sums_bytes // processes,
        "averaging_bytes": max(averaging // processes, _LEAST_AVERAGING_BYTES),
    }
    return settings.model_copy(update=shares)


def _check_can_be_shared(settings: Settings) -> None:
    """Refuses what each process would have for itself."""
    if is_in_memory(make_url(settings.database)):
        raise SettingsError(
            "with several processes each would have a database of its own in memory: name another with "
            "FEDPLAN_DATABASE_URL, or leave --processes out"
        )
    if settings.blobs.startswith("memory:"):
        raise SettingsError(
            "with several processes each would have blobs of its own in memory: name another place with "
            "FEDPLAN_BLOB_URL, or leave --processes out"
        )


def _that_travels(error: Exception) -> Exception:
    """The error, or one with the same words where it cannot be sent to another process as it is."""
    try:
        pickle.loads(pickle.dumps(error))  # nosec B301  # written here
    except Exception:  # noqa: BLE001  # whatever its class asks for
        return ConfigError(str(error))
    return error


class _SharingServer(GridServer):
    """A grid's server that takes its connections from a socket that it shares.

    Args:
        config: uvicorn's.
        app: the grid.
        listener: the socket.
        parent: is told when the server answers. When its end is closed, the server ends.
        together: what this process has in common with the others.
    """

    def __init__(
        self,
        config: uvicorn.Config,
        app: FastAPI,
        listener: socket.socket,
        parent: Connection,
        together: Together,
    ) -> None:
        super().__init__(config, app, self._tell_ready)
        self._listener = listener
        self._parent = parent
        self._together = together
        self._accepting: Accepting | None = None

    async def listen(self, _sockets: list[socket.socket] | None) -> None:
        """Begins to take connections."""
        await super().listen([])
        loop = asyncio.get_running_loop()
        loop.add_reader(self._parent.fileno(), self._end_alone)
        self._listener.setblocking(False)
        connections, processes = self._together.connections, self._together.processes
        self._accepting = Accepting(self._listener, self._protocol, self.config.ssl, connections, processes)
        self._accepting.begin()

    async def on_tick(self, counter: int) -> bool:
        """Says that this process is at work; uvicorn calls this ten times a second in the event loop."""
        self._together.beats.add(1)
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Ends in order."""
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        if self._accepting is not None:
            self._accepting.end()
        await super().shutdown(sockets)

    def _tell_ready(self) -> None:
        with contextlib.suppress(OSError):  # the parent is gone, which `_end_alone` hears of
            self._parent.send(READY)

    def _protocol(self) -> asyncio.Protocol:
        """As uvicorn makes one for each connection."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    def _end_alone(self) -> None:
        """The parent is gone: nobody would start this process again, or tell it to end."""
        asyncio.get_running_loop().remove_reader(self._parent.fileno())
        self.should_exit = True
