"""Events as rows of a table, the newest first."""

from collections.abc import Sequence
from typing import Any

from fedplan.grid.web.dashboard.views.words import said, when
from fedplan.wire.messages import EventRow

_GOOD = {"averaged", "evaluated", "reported", "hosted"}
_BAD = {"failed", "damaged"}
_WAITING = {"refused", "declined", "gone", "extended", "reopened", "paused", "stopped"}


def event_rows(events: Sequence[EventRow]) -> list[dict[str, Any]]:
    """A row for each event."""
    return [_row(one) for one in reversed(events)]


def _row(one: EventRow) -> dict[str, Any]:
    return {
        "at": when(one.at),
        "kind": {"word": said(one.kind).replace("_", " "), "tone": _tone(one.kind)},
        "model": one.model,
        "version": one.version,
        "cycle": one.cycle,
        "actor": " ".join(filter(None, (one.actor, one.actor_id and said(one.actor_id)))),
        "times": one.details.get("times"),
        "cause": said(one.cause),
    }


def _tone(kind: str) -> str:
    if kind in _GOOD:
        return "good"
    if kind in _BAD:
        return "bad"
    return "waiting" if kind in _WAITING else "quiet"
