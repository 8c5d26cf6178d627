"""The log of a grid: one line an entry, whatever its peers send; text for people, or JSON for programs."""

import json
import logging
from datetime import UTC, datetime
from enum import StrEnum
from types import TracebackType

from fedplan.text import escaped

_INDENT = "    "

_TEXT = "%(asctime)s %(levelname)s [%(request_id)s] %(name)s: %(message)s"

_NO_REQUEST = "-"
"""Stands in place of a request's id in what the grid does by itself."""

_Fault = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class LogFormat(StrEnum):
    """How the log is written."""

    text = "text"
    json = "json"


class LogLevel(StrEnum):
    """The least that is logged."""

    debug = "debug"
    info = "info"
    warning = "warning"
    error = "error"


class OneLine(logging.Formatter):
    """Escapes what is not printed, so that nobody who sends a line break writes an entry.

    The lines of a traceback, which may hold what peers have sent, are indented: none looks like an entry.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # the name is logging's
        """The entry itself."""
        return escaped(super().formatMessage(record))

    def formatException(self, ei: _Fault) -> str:  # noqa: N802
        """What follows it of an error."""
        return "\n".join(_INDENT + escaped(line) for line in super().formatException(ei).split("\n"))


class JsonLine(logging.Formatter):
    """Writes each entry as a JSON object in one line; JSON escapes what is not printed."""

    def format(self, record: logging.LogRecord) -> str:
        """The entry, with `request_id` where it belongs to a request and `error` where it tells of one."""
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", _NO_REQUEST)
        if request_id != _NO_REQUEST:
            entry["request_id"] = request_id
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def note_request(record: logging.LogRecord) -> bool:
    """Adds to an entry the id of the request to which it belongs; a filter that lets all pass."""
    from fedplan.grid.observing.correlation import current

    correlation = current()
    record.request_id = _NO_REQUEST if correlation is None else correlation.id
    return True


def log_to_stderr(form: LogFormat = LogFormat.text, level: LogLevel = LogLevel.info) -> None:
    """Begins the log of a grid.

    Args:
        form: how it is written.
        level: the least that is logged. Only fedplan itself logs what is less than `info`.
    """
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLine() if form is LogFormat.json else OneLine(_TEXT))
    handler.addFilter(note_request)
    least = logging.getLevelNamesMapping()[level.upper()]
    logging.basicConfig(level=max(least, logging.INFO), handlers=[handler])
    logging.getLogger("fedplan").setLevel(least)
    for chatty in ("httpx", "alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(max(least, logging.WARNING))
