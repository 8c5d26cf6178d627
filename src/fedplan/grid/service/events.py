"""Events: how use cases write them, and how old ones go."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from fedplan.errors import InvalidRequestError
from fedplan.grid.grid import Grid
from fedplan.grid.observing.correlation import Actor
from fedplan.grid.observing.events import MOST_TOLD, Event, Happened, Kind, Position
from fedplan.grid.records import Cycle, Process
from fedplan.grid.store import events
from fedplan.grid.store.connection import Db
from fedplan.grid.web.replies import STORAGE_FAULTS, log_failure
from fedplan.wire.messages import EVENTS_AT_ONCE, EventRow, EventsReply, EventsRequest, worker_name

logger = logging.getLogger(__name__)

_TRIM_SECONDS = 60.0
"""How often it is looked for events that are no longer kept."""

_MOST_TRIMMED = 20
"""Transactions in a row that delete; if there is more to delete, the next look goes on."""

_USUALLY_LISTED = 100
"""Of the newest events, where it is not said how many."""

_LOOKED_AT = 200
"""Rows that a stream reads at once: so few that nobody waits for it."""

_DAY = 86_400.0


async def record(grid: Grid, db: Db, *happened: Event) -> None:
    """Writes events in a transaction, with what they tell of: both are stored, or neither is.

    Who sent the request that is being answered did it, unless an event says who; what belongs to no request
    the grid did.

    Args:
        grid: the grid.
        db: the transaction's connection.
        happened: the events, in their order; see `about`.
    """
    await events.add(db, grid.clock.wall(), *happened, by=Actor("grid", grid.replica))


def about(
    process: Process,
    kind: Kind,
    cause: str,
    *,
    cycle: Cycle | int | None = None,
    worker_id: str | None = None,
    **details: object,
) -> Event:
    """An event about a hosted model.

    Args:
        process: the model.
        kind: what happened.
        cause: why, in plain words.
        cycle: in which of its cycles.
        worker_id: the worker that did it, if one did.
        details: what else is known, as JSON can hold it; what is None is left out.
    """
    return Event(
        kind,
        cause,
        process.name,
        process.version,
        cycle.number if isinstance(cycle, Cycle) else cycle,
        None if worker_id is None else Actor("worker", worker_name(worker_id)),
        {name: value for name, value in details.items() if value is not None},
    )


def of_workers(process: Process, kind: Kind, cause: str, cycle: Cycle, worker_ids: Sequence[str]) -> Event:
    """An event about many workers at once; it counts them all, and names some."""
    names = [worker_name(id) for id in worker_ids[:MOST_TOLD]]
    return about(process, kind, cause, cycle=cycle, times=len(worker_ids), workers=names or None)


async def list_events(grid: Grid, request: EventsRequest) -> EventsReply:
    """Events that are kept: those behind a position, or the newest ones.

    Raises:
        InvalidRequestError: the position is none.
        NotFoundError: there are none about such a model, and it is not hosted.
    """
    after = None if request.after is None else position_of(request.after)
    name, version = request.name, request.version
    async with grid.store.reading(long=True) as db:
        end, begin = await events.newest(db), await events.oldest(db)
        if after is None:
            most = request.last or _USUALLY_LISTED
            found = list(
                await events.page(db, Position(), most, newest_first=True, model=name, version=version)
            )[::-1]
            more = False
        else:
            found = list(await events.page(db, after, EVENTS_AT_ONCE, model=name, version=version))
            more = len(found) == EVENTS_AT_ONCE
    if not found and name is not None:
        await grid.known.find(name, version)
    last = found[-1].position if found else Position()
    return EventsReply(
        events=[row_of(one) for one in found],
        next=str(last if more else max(last, end, after or end)),
        more=more,
        lost=True if after is not None and is_lost(after, begin) else None,
    )


def is_lost(after: Position, oldest: Position) -> bool:
    """Whether events behind a position may have been deleted; whoever begins with the oldest misses none."""
    return Position() < after < oldest


def position_of(text: str) -> Position:
    """A position that a peer names.

    Raises:
        InvalidRequestError: it is none.
    """
    try:
        return Position.parse(text)
    except ValueError:
        raise InvalidRequestError("'after' and Last-Event-ID are ids of events, or 0") from None


def row_of(happened: Happened) -> EventRow:
    """An event as it is sent."""
    event = happened.event
    actor = event.actor or Actor("grid")
    return EventRow(
        id=str(happened.position),
        at=datetime.fromtimestamp(happened.at, UTC),
        kind=str(event.kind),
        model=event.model,
        version=event.version,
        cycle=event.cycle,
        actor=actor.role,
        actor_id=actor.id,
        address=happened.address,
        cause=event.cause,
        request_id=happened.request_id,
        details=dict(event.details),
    )


async def follow_events(
    grid: Grid, request: EventsRequest, after: Position
) -> AsyncIterator[tuple[Position, Sequence[EventRow]]]:
    """Events behind a position as they come, until the grid ends: those of each look, maybe none.

    Args:
        grid: the grid.
        request: about which model.
        after: the position.
    """
    while not grid.ending.is_set():
        try:
            async with grid.store.reading() as db:
                page = await events.page(db, after, _LOOKED_AT)
        except STORAGE_FAULTS as error:  # it comes back, and nothing is missed
            log_failure(logger, "events cannot be read at present", error)
            page = []
        if page:
            after = page[-1].position
        yield after, [row_of(one) for one in page if _is_about(one.event, request)]
        if len(page) < _LOOKED_AT:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grid.settings.poll_seconds):
                    await grid.ending.wait()


def _is_about(event: Event, request: EventsRequest) -> bool:
    return request.name in (None, event.model) and request.version in (None, event.version)


class EventKeeper:
    """The background task that writes bundled events, and deletes those that are no longer kept.

    Args:
        grid: the grid.
    """

    def __init__(self, grid: Grid) -> None:
        self._grid = grid
        self._next_trim = grid.clock.monotonic()
        self._unwritten: list[Event] = []

    async def run(self) -> None:
        """Works until it is cancelled; then writes what is left."""
        looking: asyncio.Task[None] | None = None
        try:
            while True:
                await asyncio.sleep(self._grid.settings.poll_seconds)
                looking = asyncio.create_task(self._look())
                await asyncio.wait([looking])  # which a cancellation does not break off: it may be committed
        finally:
            if looking is not None:
                await asyncio.wait([looking])
            try:
                await self._write(everything=True)
            except Exception as error:  # noqa: BLE001  # the grid ends all the same
                log_failure(logger, "the last events are not written", error)

    async def _look(self) -> None:
        try:
            await self._write()
            await self._trim()
        except Exception as error:  # noqa: BLE001  # a database that is away comes back
            log_failure(logger, "events cannot be written at present", error)

    async def _write(self, *, everything: bool = False) -> None:
        self._unwritten += self._grid.bundles.take(everything=everything)
        if self._unwritten:
            async with self._grid.store.writing() as db:
                await record(self._grid, db, *self._unwritten)
            self._unwritten = []

    async def _trim(self) -> None:
        grid = self._grid
        now = grid.clock.monotonic()
        if now < self._next_trim:
            return
        before = grid.clock.wall() - grid.settings.keep_events_days * _DAY
        for _ in range(_MOST_TRIMMED):
            async with grid.store.writing() as db:
                if not await events.delete_oldest(db, grid.settings.keep_events, before):
                    self._next_trim = now + _TRIM_SECONDS
                    return
