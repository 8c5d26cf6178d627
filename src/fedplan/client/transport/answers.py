"""What a grid says, read with suspicion: JSON of any depth, and words that end in a terminal or a log."""

import json
import reprlib
from typing import Any

from fedplan.errors import GridResponseError
from fedplan.text import escaped

MAX_OBJECT_BYTES = 32 * 1024**2
"""Largest JSON object that is taken as an answer. Answers are small; models are downloaded as bytes."""

_MAX_WORDS = 500
"""Characters of the grid's words that are shown at most."""


def read_json(text: bytes | str) -> Any:
    """The value that the text holds; None when it is no JSON, or is nested too deeply to be read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def parse_object(text: bytes | str, endpoint: str) -> dict[str, Any]:
    """The JSON object that an answer holds.

    Raises:
        GridResponseError: it does not hold one.
    """
    data = read_json(text)
    if not isinstance(data, dict):
        raise GridResponseError(
            f"the grid's answer to {endpoint} is not a JSON object. Is the URL that of a grid?"
        )
    return data


def grid_message(data: object) -> str | None:
    """The grid's own words in an answer that is an error, fit to be shown; None when it is none."""
    error = data.get("error") if isinstance(data, dict) else None
    if not error:
        return None
    return shown(error if isinstance(error, str) else reprlib.repr(error))


def shown(words: str) -> str:
    """A peer's words as a message may repeat them: in one line that steers no terminal, not too long."""
    line = escaped(words[: _MAX_WORDS + 1])
    return line if len(line) <= _MAX_WORDS else f"{line[:_MAX_WORDS]}…"
