"""Texts for people: those of others, as they may stand in a terminal or a log, counts, sizes, near names."""

import difflib
from collections.abc import Iterable


def escaped(text: str) -> str:
    """A text without characters that are not printed: these stand as in a Python string, such as ``\\n``."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escaped_lines(text: str) -> str:
    """The same, with its line breaks."""
    return "\n".join(map(escaped, text.split("\n")))


def counted(count: int, what: str) -> str:
    """A count of things: ``1 cycle``, ``2 cycles``."""
    return f"{count} {what}{'' if count == 1 else 's'}"


def in_bytes(count: int) -> str:
    """A number of bytes for people: ``1.3 MB``."""
    size = float(count)
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that a misspelt one is nearest to, if one is near."""
    by_lower = {one.lower(): one for one in known}
    found = difflib.get_close_matches(name.lower(), by_lower, 1)
    return by_lower[found[0]] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a misspelt name: ``; did you mean 'cycles'?``, or only a full stop."""
    found = nearest(name, known)
    return "." if found is None else f"; did you mean '{found}'?"
