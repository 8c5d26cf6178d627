"""The log of a grid: one line an entry, whatever its peers send."""

import logging
from types import TracebackType

from fedplan.text import escaped

_INDENT = "    "

_Fault = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


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


def log_to_stderr() -> None:
    """Begins the log of a grid."""
    handler = logging.StreamHandler()
    handler.setFormatter(OneLine("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    for chatty in ("httpx", "alembic", "uvicorn"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
