"""The calls that exist both over HTTP POST and over WebSocket: one table, two thin transports."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedplan.errors import InvalidRequestError
from fedplan.grid.grid import Grid
from fedplan.grid.service.hosting import host_training
from fedplan.grid.service.joining import authenticate, request_cycle
from fedplan.grid.service.reporting import report
from fedplan.wire.config import explain
from fedplan.wire.messages import (
    AUTHENTICATE,
    CYCLE_REQUEST,
    HOST_TRAINING,
    REPORT,
    AuthenticateRequest,
    CycleRequest,
    HostTrainingRequest,
    Reply,
    ReportRequest,
    Request,
)

_R = TypeVar("_R", bound=BaseModel)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of the protocol.

    Attributes:
        request: what its message holds.
        run: the use case.
        owner_only: whether it needs the grid's owner token.
    """

    request: type[Request]
    run: Callable[[Grid, Any], Awaitable[Reply]]
    owner_only: bool = False


CALLS: dict[str, Call] = {
    AUTHENTICATE: Call(AuthenticateRequest, authenticate),
    CYCLE_REQUEST: Call(CycleRequest, request_cycle),
    REPORT: Call(ReportRequest, report),
    HOST_TRAINING: Call(HostTrainingRequest, host_training, owner_only=True),
}
"""By message type, which is also the path."""


async def perform(grid: Grid, call: Call, message: bytes | dict[str, Any], token: str | None) -> Reply:
    """Answers one message.

    Args:
        grid: the grid.
        call: which call.
        message: the request as JSON, or parsed.
        token: the bearer token that came with it, or with its connection.

    Raises:
        InvalidRequestError: the message is not what the call needs.
        AuthenticationError: the call is the owner's, and the token is not.
        GridError: whatever the use case raises.
    """
    if call.owner_only:
        grid.require_owner(token)
    return await call.run(grid, parse(call.request, message))


def parse(kind: type[_R], message: bytes | str | dict[str, Any]) -> _R:
    """A message, checked.

    Raises:
        InvalidRequestError: it is not JSON, or lacks something; the message never repeats what was sent.
    """
    try:
        if isinstance(message, dict):
            return kind.model_validate(message)
        return kind.model_validate_json(message)
    except ValidationError as error:
        raise InvalidRequestError(f"the message is not valid: {explain(error, kind)}") from None


def bearer(authorization: str | None) -> str | None:
    """The token in an Authorization header."""
    scheme, _, token = (authorization or "").partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None
