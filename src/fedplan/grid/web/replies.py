"""How every answer and every refusal leaves the grid: one table, from error class to HTTP status.

The messages of the listed errors are written for the peer. Whatever else goes wrong is told to the log
alone; the peer hears "internal error", or that the storage fails and trying again makes sense.
"""

import logging
from collections.abc import Awaitable
from typing import TypeVar

from obstore.exceptions import BaseError as StorageError
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from fedplan import errors
from fedplan.wire.messages import ErrorReply

_T = TypeVar("_T")
logger = logging.getLogger(__name__)

STATUS: dict[type[Exception], int] = {
    errors.InvalidRequestError: 400,
    errors.AuthenticationError: 401,
    errors.AccessDeniedError: 403,
    errors.NotFoundError: 404,
    errors.NameTakenError: 409,
    errors.ModelStateError: 409,
    errors.HostingError: 400,
    errors.ConfigError: 400,
    errors.DiffRefusedError: 400,
    errors.SecureMessageError: 400,
    errors.ReportConflictError: 409,
    errors.SlowRequestError: 408,
    errors.TooManyRequestsError: 429,
    errors.OverloadedError: 503,
    errors.MessageTooLargeError: 413,
}
"""HTTP status of each error whose message may leave the grid."""

INTERNAL_ERROR = "internal error"

STORAGE_FAULTS = (
    OperationalError,
    InterfaceError,
    PoolTimeout,
    StorageError,
    OSError,
    errors.DatabaseUnavailableError,
    errors.DamagedBlobError,
)
"""What a database that is locked or gone raises, a disk that is full or cannot be written, and one that gives
other bytes than were stored."""

RETRY_SECONDS = {429: 1, 503: 5}
"""By status, after how long who is answered with it should ask again."""

STORAGE_FAULT = "the grid cannot read or write its storage at present; try again later"


def refusal(error: Exception) -> tuple[int, ErrorReply]:
    """The HTTP status and the body that answer an error; what is not in the table is logged."""
    for kind in type(error).__mro__:
        status = STATUS.get(kind)
        if status is not None:
            logger.debug("refused with %d: %s", status, error)
            return status, ErrorReply(error=str(error))
    log_failure(logger, "a request failed", error)
    if isinstance(error, STORAGE_FAULTS):
        return 503, ErrorReply(error=STORAGE_FAULT)
    return 500, ErrorReply(error=INTERNAL_ERROR)


def log_failure(log: logging.Logger, what: str, error: BaseException) -> None:
    """Logs an error that is not expected with its traceback; one of the storage, which may come with every
    request until somebody makes room, in a line."""
    if isinstance(error, STORAGE_FAULTS):
        log.error("%s: %s", what, in_a_line(error))
    else:
        log.error(what, exc_info=error)


def in_a_line(error: BaseException) -> str:
    """What an error of the storage says, without the statement or the internals that follow it."""
    said = getattr(error, "orig", None) or error  # SQLAlchemy's holds the database's
    first, _, _ = str(said).partition("\n")
    return f"{type(said).__name__}: {first}"


async def outcome(work: Awaitable[_T]) -> _T | tuple[int, ErrorReply]:
    """What a piece of work returns, or the refusal that its error calls for.

    The one place where any exception is caught: a fault in one request must neither reach the peer nor end
    a WebSocket that serves others.
    """
    try:
        return await work
    except Exception as error:  # noqa: BLE001  # the boundary; `refusal` logs what is not expected
        return refusal(error)
