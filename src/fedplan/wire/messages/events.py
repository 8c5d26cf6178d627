"""Messages about what happened on a grid, and about what a model waits for."""

import hashlib
import re
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from fedplan.wire.messages.message import Reply, Request, StorableText, Text
from fedplan.wire.messages.owner import CycleStatus

EVENTS_AT_ONCE = 1000
"""Events in one answer at most."""

_NAME = re.compile(r"[0-9a-f]{16}")


def worker_name(worker: str) -> str:
    """What a worker is called in events: a short digest of its id; of a name, the name itself.

    Whoever knows a worker's id can take its place in a cycle, so it is not shown to those who may only
    observe.
    """
    if _NAME.fullmatch(worker):
        return worker
    return hashlib.sha256(worker.encode(errors="surrogatepass")).hexdigest()[:16]


class EventRow(Reply):
    """Something that happened."""

    id: str
    """Where it stands among all events; `after` takes it."""
    at: datetime
    kind: str
    """What happened; docs/grid.md lists the kinds."""
    model: Text | None = None
    version: Text | None = None
    cycle: int | None = None
    actor: str
    """Who did it: `worker`, `token`, `owner token`, `anybody`, `command line`, `grid`; or `several`."""
    actor_id: str | None = None
    """A worker's name (see `worker_name`), a token's, or the replica of the grid."""
    address: str | None = None
    """Where the request came from."""
    cause: str
    """Why, in plain words."""
    request_id: str | None = None
    """Of the request, as the log has it."""
    details: dict[str, Any] = Field(default_factory=dict)


class EventsRequest(Request):
    """Asks for events, the oldest first."""

    name: StorableText | None = None
    """Only those about models of this name."""
    version: StorableText | None = None
    after: Annotated[str, Field(max_length=50)] | None = None
    """Only those behind the one of this id; 0 for all that are kept."""
    last: Annotated[int, Field(ge=1, le=EVENTS_AT_ONCE)] | None = None
    """Only so many of the newest ones."""


class EventsReply(Reply):
    """The answer to events."""

    events: list[EventRow]
    next: str
    """What `after` is to be for those that follow."""
    more: bool = False
    """Whether some follow already."""
    lost: bool | None = None
    """True where events behind `after` may have been deleted, since the grid keeps them for a while only."""


class WhyRequest(Request):
    """Asks what a model waits for, or what became of a worker."""

    name: StorableText
    version: StorableText | None = None
    worker: Annotated[Text, Field(max_length=1000)] | None = None
    """A worker's id, or its name in events."""


class RefusedStatus(Reply):
    """Refusals of one cause."""

    cause: str
    times: int


class WorkerStatus(Reply):
    """What became of a worker."""

    name: str
    """Its name in events."""
    state: Literal["training", "reported", "without a place", "refused", "unknown"]
    """In the latest cycle in which it had a place; `refused` and `unknown`, if it never had one."""
    cycle: int | None = None
    """Number of that cycle."""
    joined_at: datetime | None = None
    reported_at: datetime | None = None
    lapses_at: datetime | None = None
    """When its place lapses unless it reports."""
    cause: str | None = None
    """Why it has no place any more."""
    refused_at: datetime | None = None
    """When it was last refused, if that was after it joined."""
    refused_why: str | None = None


class WhyReply(Reply):
    """The answer to why."""

    at: datetime
    """The grid's time."""
    name: Text
    version: Text
    phase: Literal["training", "finished"]
    num_cycles: int | None = None
    cycle: CycleStatus
    lacking: int | None = None
    """Reports that are still to come until their number closes the cycle; absent where no number does."""
    min_workers: int | None = None
    """So many workers must ask before the first is taken; absent once one is."""
    asking: int | None = None
    """How many wait for a place; absent where nobody keeps count."""
    silent: int = 0
    """Workers with a place that have not reported."""
    silent_since: datetime | None = None
    """When the first of them joined."""
    lapses_at: datetime | None = None
    """When the place of that one lapses; absent while the model is paused."""
    paused: bool | None = None
    """True while its owner lets no new worker join; its cycle is then closed by no time."""
    fault: str | None = None
    """Why this grid cannot go on with it, if it cannot."""
    last_failure: str | None = None
    """Why the latest failed cycle, whichever that was, made no checkpoint."""
    refused: list[RefusedStatus] = Field(default_factory=list)
    """Refused requests of the present cycle, by cause, as far as they were written down."""
    worker: WorkerStatus | None = None
    """Of the worker that was asked for."""
