"""The composition root: settings in, an ASGI app out."""

import asyncio
import contextlib
import functools
import logging
import random
import re
import secrets
from collections.abc import AsyncIterator, Callable

import httpx
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.middleware.cors import CORSMiddleware
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Receive, Scope, Send

from fedplan.grid.averaging.apart import Apart, Bounds
from fedplan.grid.averaging.parts import Parts
from fedplan.grid.averaging.tally import Tallies
from fedplan.grid.background.closer import Closer
from fedplan.grid.background.sweeper import Sweeper
from fedplan.grid.clock import Clock, monotonic
from fedplan.grid.grid import Grid
from fedplan.grid.herds import Herds
from fedplan.grid.identity.access import Access
from fedplan.grid.identity.auth import TokenChecker, WorkerIds
from fedplan.grid.identity.certificates import Certificates
from fedplan.grid.known import Known
from fedplan.grid.observing.bundles import Bundles
from fedplan.grid.observing.metrics import Metrics
from fedplan.grid.opening import open_blobs, open_store, opening, seal_for
from fedplan.grid.readiness import Readiness
from fedplan.grid.service.events import EventKeeper
from fedplan.grid.service.webhooks import callers, check_webhooks
from fedplan.grid.serving.together import Together
from fedplan.grid.settings import Settings
from fedplan.grid.store.sealed import opened_secret
from fedplan.grid.web import events, http, operation, websocket
from fedplan.grid.web.correlated import Correlated
from fedplan.grid.web.dashboard import actions, live, routes, signing_in
from fedplan.grid.web.intake import Intake
from fedplan.grid.web.openapi import document
from fedplan.grid.web.proxies import Proxies
from fedplan.grid.web.rated import Rated
from fedplan.grid.web.rates import SECONDS_SAVED, Rates
from fedplan.grid.web.replies import refusal
from fedplan.tls import trusted
from fedplan.version import __version__
from fedplan.wire.messages import ErrorReply

logger = logging.getLogger(__name__)

_NOTHING_THERE = 404


def create_app(
    settings: Settings | None = None,
    *,
    wall: Callable[[], float] | None = None,
    monotonic: Callable[[], float] = monotonic,
    draw: Callable[[], float] = random.random,
    together: Together | None = None,
) -> FastAPI:
    """The grid as an ASGI app.

    Its store is opened, and its cycles are closed, between the start and the end of the app's lifespan.
    In-process, without a server: ``async with app.router.lifespan_context(app)``. It raises a `ConfigError`
    when the store cannot be opened. A server that is not started by `serve` needs `web.hosts.KnownHosts`
    around the app, and must not be reached by other machines without an owner token.

    Args:
        settings: how it runs; read from the environment when None.
        wall: the time in seconds since 1970; the database's when None. Tests may give another.
        monotonic: seconds from any moment on, which nobody sets; tests may give others.
        draw: random numbers in [0, 1) for the lots of ``pool_selection: random``.
        together: what this process has in common with others of the same grid; see `serve_in_processes`.
    """
    used = settings or Settings()
    common = together or Together.alone()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with running(used, wall, monotonic, draw, common) as grid:
            app.state.grid = grid
            app.state.readiness = Readiness(grid)
            yield

    app = FastAPI(title="fedplan grid", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    for router in (
        *(http.calls, http.router, websocket.router),
        *(operation.router, events.router),
        *(routes.router, actions.router, signing_in.router, live.router),
    ):
        app.include_router(router)
    app.openapi = functools.cache(document)  # type: ignore[method-assign]  # FastAPI's own way to replace it
    app.add_exception_handler(RequestValidationError, _invalid_query)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(Rated)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=used.cors_origins,
        allow_methods=["*"],
        allow_headers=["*"],
        max_age=86400,
    )
    app.add_middleware(MergeSlashes)
    app.add_middleware(Correlated, proxies=Proxies(used.trusted_proxies))
    return app


@contextlib.asynccontextmanager
async def running(
    settings: Settings,
    wall: Callable[[], float] | None,
    monotonic: Callable[[], float],
    draw: Callable[[], float],
    together: Together,
) -> AsyncIterator[Grid]:
    """A grid with its store open and its closer at work.

    Raises:
        ConfigError: the database or the blobs cannot be opened.
        SettingsError: the key for the secrets in the database cannot be used, or is another; webhooks have no
            secret.
    """
    check_webhooks(settings)
    async with (
        contextlib.aclosing(open_blobs(settings)) as blobs,
        contextlib.aclosing(await open_store(settings, seal := seal_for(settings))) as store,
        # no timeout of its own: who asks bounds the whole of a call, with `asyncio.timeout`
        httpx.AsyncClient(timeout=None, verify=trusted()) as client,  # nosec B113
    ):
        if not seal.has_key and together.number == 0:
            logger.warning("secrets in the database are not encrypted; FEDPLAN_SECRET_KEY would have it done")
        owner = settings.owner_token
        tallies = Tallies(blobs, settings.sums_bytes)
        replica = secrets.token_hex(8)
        metrics = Metrics(together.metrics)
        blobs.on_damage = lambda key: metrics.damaged.labels(key.partition("/")[0]).inc()
        clock = Clock(store, wall, monotonic)
        with opening("grid.db", settings, settings.database_url, "FEDPLAN_DATABASE_URL"):
            await clock.start()
        bundles = Bundles(clock.monotonic, settings.poll_seconds)
        parts = Parts(blobs, tallies, f"sums/{store.id}", replica)
        grid = Grid(
            settings,
            store,
            blobs,
            Known(store, blobs, Apart(Bounds.of(settings))),
            tallies,
            parts,
            Access(store, None if owner is None else owner.get_secret_value(), clock.wall, bundles),
            WorkerIds(store.secret),
            seal,
            TokenChecker(
                client,
                settings.token_check_seconds,
                settings.auth_endpoints,
                lambda stored: opened_secret(stored, seal),
            ),
            Certificates(settings.certificate_header, Proxies(settings.trusted_proxies)),
            metrics,
            Intake(settings.max_pending_bytes, together.pending),
            Rates(settings.requests_per_address),
            Herds(settings.requests_per_address * SECONDS_SAVED),
            clock,
            bundles,
            draw,
            replica,
        )
        tasks = [asyncio.create_task(work.run()) for work in (Closer(grid), EventKeeper(grid))]
        telling = callers(grid, client)
        tellers = [asyncio.create_task(caller.run()) for caller in telling]
        sweeper = Sweeper(grid)
        sweeping = asyncio.create_task(sweeper.run())
        try:
            yield grid
        finally:
            for task in tasks:
                task.cancel()
            for stop in (sweeper.stop, *(caller.stop for caller in telling)):
                stop()
            await asyncio.gather(*tasks, *tellers, sweeping, return_exceptions=True)
            await parts.aclose()
            await tallies.aclose()


class MergeSlashes:
    """Serves ``//model-centric/…``, which clients ask for when their base URL ends in a slash."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one connection."""
        if "//" in scope.get("path", ""):
            scope = {**scope, "path": re.sub("/{2,}", "/", scope["path"])}
        await self._app(scope, receive, send)


async def _invalid_query(_request: Request, error: Exception) -> Response:
    """A query that lacks something."""
    return http.to_response(refusal(http.lacking(getattr(error, "errors", tuple)())))


async def _http_error(_request: Request, error: Exception) -> Response:
    """An unknown path or method, in the grid's own form."""
    code = error.status_code if isinstance(error, HTTPException) else 500
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    if code == _NOTHING_THERE:
        detail = (
            "this grid has nothing at this address: is there a path in the grid's URL that is not its own?"
        )
    return http.to_response((code, ErrorReply(error=detail)))
