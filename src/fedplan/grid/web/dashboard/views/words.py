"""How numbers and times are written on pages. Times are UTC; a page's script adds how far off they are."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fedplan.text import escaped

_COUNTS = ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k"))
_MOST_WORDS = 400

TONES = {
    "training": "good",
    "open": "good",
    "reported": "good",
    "done": "good",
    "paused": "waiting",
    "closing": "waiting",
    "without a place": "quiet",
    "finished": "quiet",
    "revoked": "quiet",
    "expired": "quiet",
    "good": "good",
    "failed": "bad",
    "stands still": "bad",
}
"""The colour of the dot beside a word for a state; the word says all by itself."""


def state(word: str) -> dict[str, str]:
    """A state as templates show it."""
    return {"word": word, "tone": TONES.get(word, "quiet")}


def when(moment: datetime | None) -> dict[str, str] | None:
    """A moment: for machines, in full for people, and short."""
    if moment is None:
        return None
    return {
        "iso": moment.isoformat(timespec="seconds"),
        "full": f"{moment:%Y-%m-%d %H:%M:%S} UTC",
        "short": f"{moment:%H:%M:%S}",
        "day": f"{moment:%Y-%m-%d}",
    }


def span(seconds: float) -> str:
    """A duration: ``42 s``, ``3 min 20 s``, ``5 h 10 min``, ``2 d 4 h``."""
    whole = max(int(seconds), 0)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def large(count: int) -> str:
    """A large count: ``12.3 M``."""
    return next((f"{count / size:.1f} {unit}" for size, unit in _COUNTS if count >= size), str(count))


def number(value: float) -> str:
    """A measured number, to four digits."""
    return f"{value:.4g}"


def said(words: str) -> str:
    """The words of others, in one line that is not too long; templates escape what is markup."""
    line = escaped(words[: _MOST_WORDS + 1])
    return line if len(line) <= _MOST_WORDS else f"{line[:_MOST_WORDS]}…"


def shape(extents: Sequence[int | None] | None) -> str:
    """A tensor's shape: ``32 × 10``."""
    if extents is None:
        return ""
    return " × ".join("any" if extent is None else str(extent) for extent in extents) or "a number"


def in_words(moment: datetime, now: datetime) -> str:
    """A time in a sentence, with the date if it is another day."""
    return f"{moment:%H:%M:%S} UTC" if moment.date() == now.date() else f"{moment:%Y-%m-%d %H:%M} UTC"


def rows(items: Sequence[Any], most: int) -> dict[str, Any]:
    """The first rows of a table, and how many it does not show."""
    return {"rows": items[:most], "more": max(len(items) - most, 0)}
