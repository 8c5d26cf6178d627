"""The one thing that a connection to the grid can do: carry a request there and its answer back.

Everything above this interface is the same over HTTP, over a WebSocket and inside one process; everything
below it knows nothing of models and cycles. A transport may wrap another one: `RetryingTransport` does.
"""

import asyncio
import dataclasses
import random
from collections.abc import Mapping
from typing import Any, Literal, Protocol

from fedplan.errors import GridConnectionError, GridResponseError


@dataclasses.dataclass(frozen=True, slots=True)
class GridRequest:
    """One call to the grid.

    Attributes:
        endpoint: name of the call, such as ``model-centric/report``.
        data: the JSON object of a POST, the query of a GET. It holds keys and tokens, so it is not shown.
        body: bytes that a POST sends instead of a JSON object, over HTTP; `data` is the query then.
        verb: a POST is a message, which a WebSocket can carry too. A GET always goes over HTTP.
        answer: what answers it: a JSON object, which is small, or bytes, such as a model's.
        idempotent: True when doing it twice does no harm, so that it may be sent again after a failure.
        kept: of a GET, the tag of what is here already; then the answer may be that this is still good.
    """

    endpoint: str
    data: Mapping[str, Any] = dataclasses.field(repr=False)
    verb: Literal["GET", "POST"] = "POST"
    answer: Literal["object", "bytes"] = "object"
    idempotent: bool = False
    body: bytes | None = dataclasses.field(default=None, repr=False)
    kept: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class GridAnswer:
    """What came back.

    Attributes:
        data: the JSON object, where one was asked for; else empty.
        content: the bytes, where they were asked for, or None when those that are kept are still good; else
            empty.
        tag: tells the content from all others, if the grid gives it one.
    """

    data: Mapping[str, Any] = dataclasses.field(default_factory=dict, repr=False)
    content: bytes | None = dataclasses.field(default=b"", repr=False)
    tag: str | None = None


class Transport(Protocol):
    """Carries requests to one grid."""

    async def send(self, request: GridRequest) -> GridAnswer:
        """Sends a request and waits for its answer.

        Raises:
            GridConnectionError: the grid could not be reached, or the connection broke.
            GridTimeoutError: no answer came in time.
            GridResponseError: the grid answered with an error, or with something unreadable.
        """

    async def aclose(self) -> None:
        """Closes the connections of the running event loop. A later `send` opens new ones."""


@dataclasses.dataclass(frozen=True, slots=True)
class Retry:
    """How often a failed request is sent again, and after what wait.

    The wait before the n-th repetition is drawn between 0 and `first_wait` · 2ⁿ⁻¹, so that workers that
    failed together do not come back together. A grid that names a wait itself (`Retry-After`) gets it.

    Attributes:
        attempts: how often a request is sent at most; 1 means never again.
        first_wait: seconds.
        longest_wait: seconds; a grid that asks for more is not waited for.
    """

    attempts: int = 4
    first_wait: float = 0.5
    longest_wait: float = 30.0

    def wait(self, failures: int, error: GridConnectionError | GridResponseError) -> float | None:
        """Seconds to wait after the n-th failure; None when it was the last."""
        if failures >= self.attempts:
            return None
        asked = error.retry_after if isinstance(error, GridResponseError) else None
        if asked is not None:
            return asked if asked <= self.longest_wait else None
        return random.uniform(0, min(self.longest_wait, self.first_wait * 2 ** (failures - 1)))  # nosec B311  # no secret


DEFAULT_RETRY = Retry()

AWAY_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, *[30.0] * 9)
"""Seconds between two requests to a grid that is away, as while it is started again: five minutes in all."""

_PASSING = (408, 425, 429, 502, 503, 504)
"""HTTP statuses that may be gone a moment later."""


def passes(error: GridConnectionError | GridResponseError) -> bool:
    """Whether the failure may be gone a moment later."""
    return isinstance(error, GridConnectionError) or error.damaged or error.status in _PASSING


def may_repeat(request: GridRequest, error: GridConnectionError | GridResponseError) -> bool:
    """Whether the request may be sent again: it does no harm, or the grid certainly did nothing with it."""
    if isinstance(error, GridConnectionError):
        return request.idempotent or not error.sent
    if not passes(error):
        return False
    return request.idempotent or error.retry_after is not None  # "not now, come again": nothing was done


class RetryingTransport:
    """Sends requests again that failed and may be repeated."""

    def __init__(self, inner: Transport, retry: Retry) -> None:
        self._inner = inner
        self._retry = retry

    async def send(self, request: GridRequest) -> GridAnswer:
        """See `Transport.send`; raises the last failure."""
        failures = 0
        while True:
            try:
                return await self._inner.send(request)
            except (GridConnectionError, GridResponseError) as error:
                failures += 1
                wait = self._retry.wait(failures, error) if may_repeat(request, error) else None
                if wait is None:
                    raise
            await asyncio.sleep(wait)

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        await self._inner.aclose()
