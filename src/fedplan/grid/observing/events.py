"""What happens on a grid, as events: which kinds there are, and what is known of each."""

import dataclasses
import enum
import json
from collections.abc import Mapping
from typing import Any, Self

from fedplan.grid.observing.correlation import Actor, Correlation
from fedplan.text import escaped

_MOST_CAUSE = 500
"""Characters of a cause, which may hold a worker's own words."""

MOST_TOLD = 20
"""Workers that one event names at most."""


class Kind(enum.StrEnum):
    """What happened; `MEANINGS` says when each is written."""

    HOSTED = "hosted"
    OPENED = "opened"
    JOINED = "joined"
    REFUSED = "refused"
    REPORTED = "reported"
    DECLINED = "declined"
    GONE = "gone"
    EXTENDED = "extended"
    STAGE = "stage"
    CLOSED = "closed"
    REOPENED = "reopened"
    DAMAGED = "damaged"
    AVERAGED = "averaged"
    EVALUATED = "evaluated"
    FAILED = "failed"
    PAUSED = "paused"
    RESUMED = "resumed"
    STOPPED = "stopped"
    PROLONGED = "prolonged"
    CHANGED = "changed"
    PROMOTED = "promoted"
    ROLLED_BACK = "rolled_back"
    DELETED = "deleted"
    DISCARDED = "discarded"
    TOKEN_CREATED = "token_created"  # nosec B105  # the name of an event
    TOKEN_REVOKED = "token_revoked"  # nosec B105
    TOKEN_USED = "token_used"  # nosec B105


MEANINGS: dict[Kind, str] = {
    Kind.HOSTED: "A model was hosted, and its first cycle opened.",
    Kind.OPENED: "A cycle opened: after another one, or because its owner asked for an evaluation.",
    Kind.JOINED: "A worker got a place in a cycle.",
    Kind.REFUSED: "A request was refused: for a place, with a report, with a worker's token, or without a "
    "token that it needs. Bundled.",
    Kind.REPORTED: "A worker's report was taken.",
    Kind.DECLINED: "A worker gave its place back; the cause is what it said.",
    Kind.GONE: "Workers that did not report in time lost their places.",
    Kind.EXTENDED: "A cycle's time was over with too few reports; its deadline moved.",
    Kind.STAGE: "A secure round came to its next stage.",
    Kind.CLOSED: "A cycle stopped taking reports, to be averaged.",
    Kind.REOPENED: "A cycle that was closing takes reports again, for too few undamaged ones were left.",
    Kind.DAMAGED: "Reports of a cycle were lost, for what was stored of them is damaged or missing.",
    Kind.AVERAGED: "A cycle ended with a new checkpoint.",
    Kind.EVALUATED: "A cycle of evaluation ended.",
    Kind.FAILED: "A cycle ended without a checkpoint.",
    Kind.PAUSED: "A model's owner lets no new worker join.",
    Kind.RESUMED: "A model's owner took a pause back.",
    Kind.STOPPED: "A model's owner ended its training.",
    Kind.PROLONGED: "A model's owner gave it more cycles, or its open cycle more time.",
    Kind.CHANGED: "A model's owner changed keys of its configurations.",
    Kind.PROMOTED: "A copy of an older checkpoint became the newest.",
    Kind.ROLLED_BACK: "A copy of an older checkpoint became the newest, and those after it were dropped.",
    Kind.DELETED: "A model was deleted.",
    Kind.DISCARDED: "Checkpoints, or reports that had been kept, were deleted, as the model's configuration "
    "says; or blobs that nothing names.",
    Kind.TOKEN_CREATED: "An API token was made.",
    Kind.TOKEN_REVOKED: "An API token was revoked.",
    Kind.TOKEN_USED: "An API token, or the owner token, opened something. Bundled.",
}
"""When an event of each kind is written. Bundled ones stand for many of a kind: see `bundles`."""


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """Something that happens now. When it did, and to which request it belongs, is added as it is written.

    Attributes:
        kind: what; one that only a newer program knows is a text.
        cause: why, in plain words.
        model: name of the hosted model that it is about; None when it is about none.
        version: its version.
        cycle: number of its cycle; None when it is about none.
        actor: who did it; None for whoever sent the request that is being answered, or the grid itself.
        details: what else is known; JSON.
        request: the request to which it belongs; None for the one that is being answered.
    """

    kind: Kind | str
    cause: str
    model: str | None = None
    version: str | None = None
    cycle: int | None = None
    actor: Actor | None = None
    details: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    request: Correlation | None = None

    def __post_init__(self) -> None:
        line = escaped(self.cause)
        if len(line) > _MOST_CAUSE:
            line = f"{line[:_MOST_CAUSE]}…"
        object.__setattr__(self, "cause", line)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class Position:
    """Where an event stands among all, and where to go on reading.

    Databases number rows before they are committed, so a row may appear among greater numbers that were read
    already. PostgreSQL's transactions have numbers too, of which it is known which are over; so its events
    stand in the order of these.

    Attributes:
        transaction: number of the transaction that wrote it; 0 with SQLite, which has one writer.
        id: the row's.
    """

    transaction: int = 0
    id: int = 0

    def __str__(self) -> str:
        return f"{self.transaction}-{self.id}" if self.transaction else str(self.id)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads what `str` gave.

        Raises:
            ValueError: it is none.
        """
        transaction, dash, id = text.partition("-")
        if not text.isascii() or len(text) > 2 * _MOST_DIGITS:
            raise ValueError("it is no position of an event")
        found = cls(int(transaction), int(id)) if dash else cls(0, int(transaction))
        if not (0 <= found.transaction < _MOST_NUMBER and 0 <= found.id < _MOST_NUMBER):
            raise ValueError("it is no position of an event")
        return found


_MOST_NUMBER = 2**63
_MOST_DIGITS = 19


@dataclasses.dataclass(frozen=True, slots=True)
class Happened:
    """An event as it is stored; see `Event`.

    Attributes:
        position: where it stands among all.
        at: when it happened, in seconds since 1970, as people's clocks show it.
        event: what happened; its actor is known.
        address: where the request came from; None when it was none.
        request_id: of the request; None when it was none.
    """

    position: Position
    at: float
    event: Event
    address: str | None
    request_id: str | None


def details_to_json(details: Mapping[str, Any]) -> str | None:
    """As they are stored."""
    return json.dumps(details) if details else None
