"""Events over HTTP: as JSON, page by page, and as server-sent events, as they happen.

A stream reads the table, so it tells what any replica has written, and whoever was cut off goes on where it
was, at any replica: the id of each server-sent event is its position.
"""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from pydantic_core import to_json
from starlette.types import Receive, Scope, Send

from fedplan.errors import OverloadedError
from fedplan.grid import records
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Position
from fedplan.grid.service.events import follow_events, is_lost, list_events, position_of
from fedplan.grid.store import events
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.http import answered, parse_query
from fedplan.wire.messages import EVENTS, EventRow, EventsRequest, Reply, dump

router = APIRouter()

STREAM = "text/event-stream"

HEARTBEAT_SECONDS = 15.0
"""After how long without an event a stream says that it is alive: proxies end connections that are silent."""

_HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}  # nginx sends on what comes at once


@router.get(f"/{EVENTS}", response_model=None)
@answered(EVENTS)
async def get_events(request: Request) -> Reply | Response:
    """What happened on the grid; needs a token to observe, where there are some.

    As JSON, or for who accepts `text/event-stream` as it happens, from the newest on or behind the event that
    `Last-Event-ID` or `after` names.
    """
    grid: Grid = request.app.state.grid
    caller = Caller.of(request.headers)
    await grid.access.require(caller, records.Scope.OBSERVE)
    query = parse_query(EventsRequest, request)
    if STREAM not in request.headers.get("accept", ""):
        return await list_events(grid, query)
    named = request.headers.get("last-event-id") or query.after
    after = None if named is None else position_of(named)
    if query.name is not None:
        await grid.known.find(query.name, query.version)
    async with grid.store.reading() as db:
        begin, end = await events.oldest(db), await events.newest(db)
    if len(grid.streams) >= grid.settings.max_event_streams:
        raise OverloadedError(
            f"{len(grid.streams)} others follow the events of this grid already, which is as many as may "
            "(FEDPLAN_MAX_EVENT_STREAMS); try again later"
        )
    lost = after is not None and is_lost(after, begin)
    return EventStream(grid, _lines(grid, caller, query, end if after is None else after, lost=lost))


class EventStream(StreamingResponse):
    """A stream of events, which counts as one as long as it is open."""

    def __init__(self, grid: Grid, lines: AsyncIterator[bytes]) -> None:
        super().__init__(lines, headers=_HEADERS, media_type=STREAM)
        self._grid = grid
        grid.streams.add(self)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._grid.streams.discard(self)


async def _lines(
    grid: Grid, caller: Caller, query: EventsRequest, after: Position, *, lost: bool
) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    if lost:
        yield b'event: lost\ndata: {"error": "older events are no longer kept"}\n\n'
    yield _alive(after)
    told = clock()
    async for position, rows in follow_events(grid, query, after):
        silent = clock() - told > HEARTBEAT_SECONDS
        if not rows and not silent:
            continue
        if await grid.access.refusal(caller, records.Scope.OBSERVE) is not None:
            return  # its token was revoked, or has expired
        yield b"".join(map(_line, rows)) if rows else _alive(position)
        told = clock()


def _line(row: EventRow) -> bytes:
    return b"id: %s\ndata: %s\n\n" % (row.id.encode(), to_json(dump(row)))


def _alive(position: Position) -> bytes:
    """Nothing has happened; whoever asks again, after a break, goes on from here."""
    return b": alive\nid: %s\n\n" % str(position).encode()
