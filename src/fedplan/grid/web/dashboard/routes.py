"""The pages that show something, and the files that they need."""

import asyncio
import re
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from fedplan.errors import NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.service.events import list_events
from fedplan.grid.service.history import history
from fedplan.grid.service.lineage import checkpoints
from fedplan.grid.service.retrieving import retrieve_model
from fedplan.grid.service.status import status, status_of
from fedplan.grid.service.taking_part import participants
from fedplan.grid.service.why import why
from fedplan.grid.store import credentials
from fedplan.grid.web.dashboard.actions import ASKED, SAID, add_token, fields_of
from fedplan.grid.web.dashboard.pages import STATIC, page, render
from fedplan.grid.web.dashboard.sessions import caller_of
from fedplan.grid.web.dashboard.views import model as model_view
from fedplan.grid.web.dashboard.views.events import event_rows
from fedplan.grid.web.dashboard.views.models import model_rows
from fedplan.grid.web.dashboard.views.plans import batch_of, plan_listing
from fedplan.grid.web.dashboard.views.tokens import LIFETIMES, SCOPES, token_rows, wanted_token
from fedplan.grid.web.http import parse_query, send
from fedplan.wire.messages import (
    CheckpointsRequest,
    EventsRequest,
    HistoryRequest,
    RetrieveRequest,
    WhyRequest,
)

router = APIRouter(include_in_schema=False)

_EVENTS_OF_MODEL = 15
_EVENTS_SHOWN = 200

_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FOR_GOOD = {"cache-control": "public, max-age=31536000, immutable", "x-content-type-options": "nosniff"}


async def _observe(grid: Grid, request: Request) -> None:
    await grid.access.require(caller_of(grid, request), Scope.OBSERVE)


@router.get("/", response_model=None)
@page("models")
async def models(request: Request, grid: Grid) -> Response:
    """What the grid hosts."""
    await _observe(grid, request)
    reply = await status(grid, None)
    template = "models_live.html" if _is_part(request) else "models.html"
    values = {"models": model_rows(reply.models), "said": _said(request)}
    return await render(grid, request, template, values)


def _is_part(request: Request) -> bool:
    return "part" in request.query_params


def _said(request: Request) -> str | None:
    """What was done before this page came; a code stands for it, so that no link puts words into a page."""
    return SAID.get(request.query_params.get("said", ""))


@router.get("/model", response_model=None)
@page("model")
async def model(request: Request, grid: Grid) -> Response:
    """One model: why it waits, who takes part, what came of it, and what can be done with it."""
    await _observe(grid, request)
    asked = parse_query(WhyRequest, request)
    process = await grid.known.find(asked.name, asked.version)
    named = {"name": process.name, "version": process.version}
    shown = await status_of(grid, process)
    told = await why(grid, WhyRequest(**named), shown)
    ended = (await history(grid, HistoryRequest(**named))).rows
    found = (await checkpoints(grid, CheckpointsRequest(**named))).checkpoints
    happened = await list_events(grid, EventsRequest(**named, last=_EVENTS_OF_MODEL))
    values: dict[str, Any] = {
        **named,
        "now": model_view.present(shown, told, await participants(grid, process.name, process.version)),
        "past": model_view.past(ended),
        "checkpoints": model_view.checkpoint_rows(found),
        "events": event_rows(happened.events),
        "plans": model_view.plan_rows(shown.plans),
        "clients": model_view.client_rows(shown),
        "size": model_view.size_of(process.layout),
        "said": _said(request),
    }
    return await render(grid, request, "model_live.html" if _is_part(request) else "model.html", values)


@router.get("/points", response_model=None)
@page("points")
async def points(request: Request, grid: Grid) -> Response:
    """What was measured of a model's checkpoints, as JSON for the plots."""
    await _observe(grid, request)
    ended = await history(grid, parse_query(HistoryRequest, request))
    return JSONResponse(model_view.points(ended.rows), headers={"cache-control": "no-store"})


@router.get("/plan", response_model=None)
@page("plan")
async def plan(request: Request, grid: Grid) -> Response:
    """All that a Plan does, and what a run of it costs."""
    await _observe(grid, request)
    query = request.query_params
    process = await grid.known.find(query.get("name", ""), query.get("version"))
    hosted = (await grid.known.hosted(process.id)).plans
    name = query.get("plan", "")
    if name not in hosted:
        raise NotFoundError(f"{process.named} has no Plan '{name}'")
    variants = hosted[name].variants
    form = variants.get("list") or next(iter(variants.values()))
    data = await grid.blobs.get(form.content)
    values = {
        "name": process.name,
        "version": process.version,
        "plan": name,
        "listing": await asyncio.to_thread(plan_listing, data, batch_of(process.client_config)),
    }
    return await render(grid, request, "plan.html", values)


@router.get("/events", response_model=None)
@page("events")
async def events(request: Request, grid: Grid) -> Response:
    """What happened, of one model or of all."""
    await _observe(grid, request)
    asked = parse_query(EventsRequest, request)
    query = EventsRequest(name=asked.name, version=asked.version, last=_EVENTS_SHOWN)
    values = {
        "name": asked.name,
        "version": asked.version,
        "events": event_rows((await list_events(grid, query)).events),
    }
    return await render(grid, request, "events_live.html" if _is_part(request) else "events.html", values)


@router.get("/tokens", response_model=None)
@page("tokens")
async def tokens(request: Request, grid: Grid) -> Response:
    """The API tokens, for who may do everything."""
    await grid.access.require(caller_of(grid, request), Scope.ADMIN)
    return await _tokens(request, grid, None)


@router.post("/tokens", response_model=None)
@page("tokens")
async def new_token(request: Request, grid: Grid) -> Response:
    """Makes a token, and shows it this once."""
    fields = await fields_of(grid, request)
    await grid.access.require(caller_of(grid, request), Scope.ADMIN)
    name, scopes, seconds = wanted_token(fields)
    made = await add_token(grid, name, scopes, seconds)
    return await _tokens(request, grid, {"name": name, "text": made})


async def _tokens(request: Request, grid: Grid, made: dict[str, str] | None) -> Response:
    async with grid.store.reading() as db:
        held = await credentials.list_api_tokens(db)
    values = {
        "tokens": token_rows(held, grid.clock.wall()),
        "lifetimes": LIFETIMES,
        "scopes": {str(scope): what for scope, what in SCOPES.items()},
        "made": made,
        "said": _said(request),
    }
    return await render(grid, request, "tokens.html", values)


@router.get("/checkpoint", response_model=None)
@page("checkpoint")
async def checkpoint(request: Request, grid: Grid) -> Response:
    """A checkpoint's bytes, as a file."""
    query = parse_query(RetrieveRequest, request)
    refusal = await grid.access.refusal(caller_of(grid, request), Scope.READ)
    response = await send(grid, await retrieve_model(grid, query, refusal=refusal), request.headers)
    name = re.sub(r"[^\w.-]+", "-", f"{query.name}-{query.version or ''}-{query.checkpoint}", flags=re.ASCII)
    response.headers["content-disposition"] = f'attachment; filename="{name}.pb"'
    response.headers["cache-control"] = "no-store"
    return response


@router.get("/confirm", response_model=None)
@page("confirm")
async def confirm(request: Request, grid: Grid) -> Response:
    """Asks whether something is meant that cannot be taken back."""
    query = request.query_params
    asked = ASKED.get(query.get("do", ""))
    if asked is None:
        raise NotFoundError("there is no such action")
    await grid.access.require(caller_of(grid, request), asked.scope)
    values = {
        "do": query["do"],
        "asked": asked,
        "name": query.get("name", ""),
        "version": query.get("version", ""),
        "checkpoint": query.get("checkpoint"),
    }
    return await render(grid, request, "confirm.html", values)


@router.get("/static/{path:path}", response_model=None)
async def static(path: str) -> Response:
    """A script, a style or a picture."""
    if path not in STATIC:
        return Response("there is no such file", 404, media_type="text/plain")
    return Response(STATIC[path], 200, _FOR_GOOD, _KINDS.get(path.rpartition(".")[2], "text/plain"))
