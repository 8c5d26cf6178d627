"""Tells pages that something has happened, as server-sent events; they load then what may have changed."""

import asyncio
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request, Response

from fedplan.errors import OverloadedError
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind, Position
from fedplan.grid.records import Scope
from fedplan.grid.service.events import follow_events
from fedplan.grid.store import events
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.dashboard.pages import page
from fedplan.grid.web.dashboard.sessions import caller_of
from fedplan.grid.web.events import EventStream
from fedplan.grid.web.http import parse_query
from fedplan.wire.messages import EventsRequest

router = APIRouter(include_in_schema=False)

RENEW_SECONDS = 15.0
"""After how long without an event pages load themselves anew all the same: not all that they show has one."""

_CHANGE = b"event: change\ndata: \n\n"
_LEAVE = b"event: leave\ndata: \n\n"


@router.get("/live", response_model=None)
@page("live")
async def live(request: Request, grid: Grid) -> Response:
    """A stream with an event whenever something has happened, of one model or of all.

    It begins with one, so that nothing is missed that happened while the page was loaded, or while the
    stream was cut off.
    """
    caller = caller_of(grid, request)
    await grid.access.require(caller, Scope.OBSERVE)
    query = parse_query(EventsRequest, request)
    async with grid.store.reading() as db:
        newest = await events.newest(db)
    if len(grid.streams) >= grid.settings.max_event_streams:
        raise OverloadedError(
            f"{len(grid.streams)} others follow this grid already, which is as many as may "
            "(FEDPLAN_MAX_EVENT_STREAMS): load the page again to see what is new"
        )
    return EventStream(grid, _changes(grid, caller, query, newest))


async def _changes(grid: Grid, caller: Caller, query: EventsRequest, after: Position) -> AsyncIterator[bytes]:
    clock = asyncio.get_running_loop().time
    yield _CHANGE
    told = clock()
    async for _, rows in follow_events(grid, query, after):
        happened = [row for row in rows if row.kind != Kind.TOKEN_USED]  # which a page does by loading itself
        if not happened and clock() - told < RENEW_SECONDS:
            continue
        holder = await grid.access.holder(caller)
        if holder is None or Scope.OBSERVE not in holder.scopes:
            yield _LEAVE  # its token was revoked, or has expired
            return
        yield _CHANGE
        told = clock()
