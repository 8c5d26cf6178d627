"""Runs the grid under uvicorn."""

import contextlib
import logging
import socket
import ssl
from collections.abc import Callable

import uvicorn
from fastapi import FastAPI
from starlette.types import ASGIApp

from fedplan.errors import SettingsError
from fedplan.grid.app import create_app
from fedplan.grid.settings import Settings
from fedplan.grid.web.connections.bounds import BoundedConfig, Bounds, Peers
from fedplan.grid.web.connections.http import BoundedHttp
from fedplan.grid.web.connections.websocket import BoundedWebSocket
from fedplan.grid.web.hosts import KnownHosts, is_loopback
from fedplan.grid.web.intake import Intake
from fedplan.grid.web.proxies import Proxies

try:
    import resource
except ImportError:  # Windows, which has no such limit
    resource = None  # type: ignore[assignment]

logger = logging.getLogger(__name__)

_GRACE_SECONDS = 10

_LEAST_TOKEN = 16
"""Characters of an owner token that others may try to guess."""

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
    _check_tls(used)
    app = create_app(used)
    config = uvicorn_config(used, app, lambda: app.state.grid.intake)
    config.lifespan = "off"  # the server below runs it; uvicorn would log why it fails, and raise nothing
    with socket.create_server((host, port), family=_family(host), backlog=config.backlog) as listener:
        _check_reach(used, host, listener)
        server = _Server(config, app, lambda: on_ready and on_ready(listener.getsockname()[1]))
        with contextlib.suppress(KeyboardInterrupt):  # uvicorn raises it again once all is closed
            server.run(sockets=[listener])


def uvicorn_config(settings: Settings, app: ASGIApp, intake: Callable[[], Intake]) -> uvicorn.Config:
    """How uvicorn serves a grid.

    Args:
        settings: of the grid.
        app: the grid.
        intake: the room for what its peers send; there is one as soon as the grid is open.
    """
    most = min(settings.max_connections, _open_files(settings.max_connections) - _OTHER_FILES)
    bounds = Bounds(
        Peers(most, settings.max_connections_per_address, Proxies(settings.trusted_proxies)),
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


def _check_reach(settings: Settings, host: str, listener: socket.socket) -> None:
    """Lets no grid be open to other machines by an oversight."""
    if is_loopback(listener.getsockname()[0]) or settings.insecure:
        return
    reach = f"at {host or '0.0.0.0'} other machines reach this grid, and"
    if settings.owner_token is None:
        raise SettingsError(
            f"{reach} without an owner token each could host models and retrieve them: set "
            "FEDPLAN_OWNER_TOKEN, or start with --insecure if that is meant"
        )
    if len(settings.owner_token.get_secret_value()) < _LEAST_TOKEN:
        raise SettingsError(
            f"{reach} FEDPLAN_OWNER_TOKEN is short enough to be guessed: take one of {_LEAST_TOKEN} "
            "characters or more"
        )
    if settings.tls_cert is None:
        logger.warning(
            "other machines reach this grid over plain HTTP: tokens, models and reports can be read on the "
            "way, unless a proxy encrypts them, or the grid does with --tls-cert"
        )


def _check_tls(settings: Settings) -> None:
    """Looks whether the certificate can be used; uvicorn would ask the terminal for a key's password."""
    if settings.tls_cert is None and settings.tls_key is None:
        return
    if settings.tls_cert is None or settings.tls_key is None:
        raise SettingsError("TLS needs a certificate and its key: --tls-cert and --tls-key")
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
            settings.tls_cert, settings.tls_key, lambda: ""
        )
    except OSError as error:
        why = error.strerror or str(error) or "they are no PEM, or the key has a password"
        raise SettingsError(
            f"the certificate '{settings.tls_cert}' with the key '{settings.tls_key}' cannot be used: {why}"
        ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class _Server(uvicorn.Server):
    """uvicorn's server, which runs the app's lifespan itself, and says when it has started."""

    def __init__(self, config: uvicorn.Config, app: FastAPI, on_ready: Callable[[], object]) -> None:
        super().__init__(config)
        self._app = app
        self._lifespan = app.router.lifespan_context(app)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await self._lifespan.__aenter__()
        await super().startup(sockets)
        if self.started:
            self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._app.state.grid.ending.set()
        await super().shutdown(sockets)
        if not self.force_exit:  # a second Ctrl-C waits for nothing
            await self._lifespan.__aexit__(None, None, None)
