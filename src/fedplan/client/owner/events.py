"""Events: what happened on a grid, as those see it who may observe it."""

import asyncio
import csv
import io
import json
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from typing import Any

import pydantic

from fedplan.client.owner.history import data_frame
from fedplan.client.transport.answers import read_json
from fedplan.client.transport.api import GridApi
from fedplan.client.transport.exchange import passes
from fedplan.errors import GridConnectionError, GridResponseError
from fedplan.text import counted
from fedplan.wire import messages
from fedplan.wire.messages import EventRow, EventsReply

_AGAIN_SECONDS = 2.0
"""After how long a stream that was cut off is opened again."""

_MOST_FAILURES = 150
"""How often in a row before that is given up: five minutes."""

COLUMNS = (
    *("id", "at", "kind", "model", "version", "cycle", "actor", "actor_id", "address", "cause"),
    *("request_id", "details"),
)


class Events(Sequence[EventRow]):
    """The newest events of a grid, the oldest of them first. `ModelCentricFLClient.events` gives them.

    A row tells of one: when it happened (`at`), its `kind` (docs/grid.md lists them), the `model`, `version`
    and `cycle` that it is about, who did it (`actor`, `actor_id`, `address`), its `cause` in plain words, the
    `request_id` under which the grid's log has it, and `details`.

    Attributes:
        next: the id behind which those stand that follow; `each_event` takes it as `after`.
    """

    def __init__(self, rows: Iterable[EventRow], next: str) -> None:
        """The events that a grid told."""
        self._rows = tuple(rows)
        self.next = next

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        return self._rows[index]

    def __iter__(self) -> Iterator[EventRow]:
        return iter(self._rows)

    def __repr__(self) -> str:
        last = f", the last '{self._rows[-1].kind}'" if self._rows else ""
        return f"<Events: {counted(len(self), 'event')}{last}>"

    def to_dicts(self) -> list[dict[str, Any]]:
        """One flat dict an event, with its details as JSON."""
        return [dict(zip(COLUMNS, cells(row), strict=True)) for row in self._rows]

    def to_csv(self) -> str:
        """The same as comma-separated values, with a line of names."""
        return csv_line(COLUMNS) + "".join(csv_line(cells(row)) for row in self._rows)

    def to_pandas(self) -> Any:
        """The same as a `pandas.DataFrame`, with the id as its index.

        Raises:
            ConfigError: pandas is not installed.
        """
        return data_frame(self.to_dicts(), COLUMNS).set_index("id")


def cells(row: EventRow) -> list[Any]:
    """What the columns hold of an event."""
    return [json.dumps(row.details) if name == "details" else getattr(row, name) for name in COLUMNS]


def csv_line(values: Sequence[Any]) -> str:
    """One line of comma-separated values."""
    file = io.StringIO()
    csv.writer(file, lineterminator="\n").writerow(values)
    return file.getvalue()


async def newest_events(grid: GridApi, name: str | None, version: str | None, last: int) -> Events:
    """See `ModelCentricFLClient.events`."""
    reply = await _look(grid, name, version, last=last)
    return Events(reply.events, reply.next)


async def each_event(
    grid: GridApi, name: str | None, version: str | None, after: str, *, follow: bool
) -> AsyncIterator[EventRow]:
    """See `ModelCentricFLClient.each_event`."""
    more = True
    while more:
        reply = await _look(grid, name, version, after=after)
        for row in reply.events:
            yield row
        after, more = reply.next, reply.more
    if not follow:
        return
    follower = _polled if grid.http.is_in_process else _streamed
    async for row in follower(grid, name, version, after):
        yield row


async def _look(grid: GridApi, name: str | None, version: str | None, **query: str | int) -> EventsReply:
    return await grid.look(messages.EVENTS, EventsReply, name=name, version=version, **query)


async def _polled(
    grid: GridApi, name: str | None, version: str | None, after: str
) -> AsyncIterator[EventRow]:
    """Events as they happen, by looking again and again: what is in this process has no streams."""
    while True:
        reply = await _look(grid, name, version, after=after)
        for row in reply.events:
            yield row
        after = reply.next
        if not reply.more:
            await asyncio.sleep(_AGAIN_SECONDS / 4)


async def _streamed(
    grid: GridApi, name: str | None, version: str | None, after: str
) -> AsyncIterator[EventRow]:
    """Events as they happen; a stream that is cut off goes on where it was."""
    query = {key: value for key, value in (("name", name), ("version", version)) if value is not None}
    failures = 0
    while True:
        try:
            async for id, data in grid.http.server_sent(messages.EVENTS, query, after):
                failures = 0
                after = id or after
                if data is not None and (row := _row(data)) is not None:
                    yield row
        except (GridConnectionError, GridResponseError) as error:
            failures += 1
            if not passes(error) or failures > _MOST_FAILURES:
                raise
        await asyncio.sleep(_AGAIN_SECONDS)


def _row(data: str) -> EventRow | None:
    """An event; None for what is none, as the word that older ones are no longer kept."""
    told = read_json(data)
    if not isinstance(told, dict) or "error" in told:
        return None
    try:
        return EventRow.model_validate(told)
    except pydantic.ValidationError:
        raise GridResponseError("the grid's stream holds what is no event. Is it a grid?") from None
