"""Runs the grid under uvicorn, in this process."""

import contextlib
import logging
import socket
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from fedplan.grid.app import create_app
from fedplan.grid.serving.listening import listening
from fedplan.grid.serving.together import Together
from fedplan.grid.settings import Settings
from fedplan.grid.web.connections.bounds import BoundedConfig, Bounds, Peers
from fedplan.grid.web.connections.http import BoundedHttp
from fedplan.grid.web.connections.websocket import BoundedWebSocket
from fedplan.grid.web.hosts import KnownHosts
from fedplan.grid.web.intake import Intake
from fedplan.grid.web.proxies import Proxies

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 10

_OTHER_FILES = 100
"""Open files that are no connections: the database, blobs, scratch files."""

_SILENCE_SECONDS = 600.0
"""How long a WebSocket may leave a ping unanswered. A worker that trains in its only thread answers none
meanwhile, and syft.js does not report again when it finds its socket closed."""


def serve(
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    on_ready: Callable[[int], None] | None = None,
) -> None:
    """Serves a grid until SIGINT or SIGTERM; open requests are answered first. Prints nothing.

    Args:
        settings: how it runs; read from the environment when None.
        host: address to listen on.
        port: port to listen on; 0 takes any free one.
        on_ready: called with the port once the grid answers.

    Raises:
        OSError: the address cannot be listened on.
        SettingsError: other machines reach the address, and there is no owner token; or the certificate
            cannot be used.
        ConfigError: the database or the blobs cannot be opened.
    """
    used = settings or Settings()
    with listening(used, host, port) as listener:
        app = create_app(used)
        config = uvicorn_config(used, app, lambda: app.state.grid.intake)
        server = GridServer(config, app, lambda: on_ready and on_ready(listener.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once all is closed
            server.run(sockets=[listener])


def uvicorn_config(
    settings: Settings, app: ASGIApp, intake: Callable[[], Intake], together: Together | None = None
) -> uvicorn.Config:
    """How uvicorn serves a grid.

    Args:
        settings: of the grid.
        app: the grid.
        intake: the room for what its peers send; there is one as soon as the grid is open.
        together: what this process has in common with others of the grid; None for one process alone.
    """
    most = settings.max_connections
    bounds = Bounds(
        Peers(
            most,
            settings.max_connections_per_address,
            Proxies(settings.trusted_proxies),
            most_here=min(most, _open_files(most) - _OTHER_FILES),
            together=together,
        ),
        settings.head_seconds,
        settings.stall_seconds,
        intake,
    )
    return BoundedConfig(
        KnownHosts(app, settings),
        bounds,
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        http=BoundedHttp,
        ws=BoundedWebSocket,
        ws_max_size=settings.max_message_bytes,
        ws_per_message_deflate=False,  # numbers hardly shrink; a bomb swells a thousandfold
        ws_ping_timeout=_SILENCE_SECONDS,
        log_config=None,
        access_log=False,  # URLs hold request keys
        server_header=False,
        proxy_headers=False,  # uvicorn would believe all of this machine; `Proxies` knows whom to believe
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )


def _open_files(connections: int) -> int:
    """How many files this process may have open, raised for so many connections if that is allowed."""
    wanted = connections + _OTHER_FILES
    if resource is None:
        return wanted
    now, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if now != resource.RLIM_INFINITY and now < wanted:
        now = wanted if most == resource.RLIM_INFINITY else min(wanted, most)
        resource.setrlimit(resource.RLIMIT_NOFILE, (now, most))
    if now != resource.RLIM_INFINITY and now < wanted:
        logger.warning(
            "this process may open %d files, so it takes %d connections at most and not %d: raise the limit "
            "(ulimit -n), or lower FEDPLAN_MAX_CONNECTIONS",
            now,
            now - _OTHER_FILES,
            connections,
        )
        return now
    return wanted


class GridServer(uvicorn.Server):
    """uvicorn's server, which runs the app's lifespan itself, and says when it has started.

    Args:
        config: uvicorn's.
        app: the grid.
        on_ready: called once it answers.
    """

    def __init__(self, config: uvicorn.Config, app: FastAPI, on_ready: Callable[[], object]) -> None:
        config.lifespan = "off"  # uvicorn would log why it fails, and raise nothing
        super().__init__(config)
        self._app = app
        self._lifespan = app.router.lifespan_context(app)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Opens the grid, and takes connections."""
        await self._lifespan.__aenter__()
        await self.listen(sockets)
        if self.started:
            self._on_ready()

    async def listen(self, sockets: list[socket.socket] | None) -> None:
        """Takes connections."""
        await super().startup(sockets)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answers what is open, and closes the grid."""
        self._app.state.grid.ending.set()
        await super().shutdown(sockets)
        if not self.force_exit:  # a second Ctrl-C waits for nothing
            await self._lifespan.__aexit__(None, None, None)
