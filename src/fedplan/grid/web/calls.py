"""The calls that exist both over HTTP POST and over WebSocket: one table, two thin transports."""

import dataclasses
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from fedplan.errors import InvalidRequestError
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.secure.receiving import receive
from fedplan.grid.secure.sending import send, send_bytes
from fedplan.grid.service.controlling import extend, pause, resume, set_configs, stop
from fedplan.grid.service.evaluating import evaluate
from fedplan.grid.service.hosting import host_training
from fedplan.grid.service.joining import authenticate, request_cycle
from fedplan.grid.service.lineage import promote, roll_back
from fedplan.grid.service.removing import delete
from fedplan.grid.service.reporting import check_keys, report, report_bytes
from fedplan.grid.service.vacating import decline
from fedplan.grid.web.callers import Caller
from fedplan.wire.config import explain
from fedplan.wire.messages import (
    AUTHENTICATE,
    CYCLE_REQUEST,
    DECLINE,
    DELETE,
    EVALUATE,
    EXTEND,
    HOST_TRAINING,
    PAUSE,
    PROMOTE,
    REPORT,
    RESUME,
    ROLL_BACK,
    SECURE_RECEIVE,
    SECURE_SEND,
    SET,
    STOP,
    AuthenticateRequest,
    CycleRequest,
    DeclineRequest,
    DeleteRequest,
    EvaluateRequest,
    ExtendRequest,
    HostTrainingRequest,
    PauseRequest,
    PromoteRequest,
    Reply,
    ReportKeys,
    ReportRequest,
    Request,
    ResumeRequest,
    RollBackRequest,
    SecureReceiveRequest,
    SecureSendKeys,
    SecureSendRequest,
    SetRequest,
    StopRequest,
)

_R = TypeVar("_R", bound=BaseModel)

_SMALL = 1024 * 1024  # bytes; a large token is some kilobytes

_MOST_VALUES = 100_000
"""Values in a message. The large ones of this protocol are large by their texts; a message of very many small
values is made to fill the memory, in which each takes a hundred times its bytes."""


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """One call of the protocol.

    Attributes:
        request: what its message holds.
        run: the use case.
        scope: what who sends it must have a token for; None for workers' calls.
        most_bytes: the largest message, where it is less than the grid's setting.
        of_client: whether the use case is told which client asks.
        of_certificate: whether it is told of the client's certificate.
        bytes_request: for a call whose message may also be a body of bytes, what the query holds then.
        run_bytes: the use case for that.
        check_keys: refuses what the query holds, before the body is read.
    """

    request: type[Request]
    run: Callable[..., Awaitable[Reply]]
    scope: Scope | None = None
    most_bytes: int | None = None
    of_client: bool = False
    of_certificate: bool = False
    bytes_request: type[Request] | None = None
    run_bytes: Callable[..., Awaitable[Reply]] | None = None
    check_keys: Callable[..., Awaitable[None]] | None = None


CALLS: dict[str, Call] = {
    AUTHENTICATE: Call(AuthenticateRequest, authenticate, most_bytes=_SMALL, of_certificate=True),
    CYCLE_REQUEST: Call(CycleRequest, request_cycle, most_bytes=_SMALL, of_client=True, of_certificate=True),
    REPORT: Call(
        ReportRequest, report, bytes_request=ReportKeys, run_bytes=report_bytes, check_keys=check_keys
    ),
    SECURE_SEND: Call(
        SecureSendRequest, send, bytes_request=SecureSendKeys, run_bytes=send_bytes, check_keys=check_keys
    ),
    SECURE_RECEIVE: Call(SecureReceiveRequest, receive, most_bytes=_SMALL),
    DECLINE: Call(DeclineRequest, decline, most_bytes=_SMALL),
    HOST_TRAINING: Call(HostTrainingRequest, host_training, scope=Scope.HOST),
    EVALUATE: Call(EvaluateRequest, evaluate, most_bytes=_SMALL, scope=Scope.HOST),
    PAUSE: Call(PauseRequest, pause, most_bytes=_SMALL, scope=Scope.HOST),
    RESUME: Call(ResumeRequest, resume, most_bytes=_SMALL, scope=Scope.HOST),
    STOP: Call(StopRequest, stop, most_bytes=_SMALL, scope=Scope.HOST),
    EXTEND: Call(ExtendRequest, extend, most_bytes=_SMALL, scope=Scope.HOST),
    SET: Call(SetRequest, set_configs, most_bytes=_SMALL, scope=Scope.HOST),
    DELETE: Call(DeleteRequest, delete, most_bytes=_SMALL, scope=Scope.HOST),
    PROMOTE: Call(PromoteRequest, promote, most_bytes=_SMALL, scope=Scope.HOST),
    ROLL_BACK: Call(RollBackRequest, roll_back, most_bytes=_SMALL, scope=Scope.HOST),
}
"""By message type, which is also the path."""


async def admit(grid: Grid, call: Call, caller: Caller, keys: Request | None) -> None:
    """Refuses, before a message is read, who may not send it.

    Args:
        grid: the grid.
        call: which call.
        caller: who sends it.
        keys: what comes beside a body of bytes.

    Raises:
        AuthenticationError: the call needs a token, and there is none, or a wrong one.
        AccessDeniedError: the token is for other calls, a web page sends it to a grid without tokens, or the
            keys open nothing.
    """
    if call.scope is not None:
        await grid.access.require(caller, call.scope)
    if keys is not None and call.check_keys is not None:
        await call.check_keys(grid, keys)


async def perform(
    grid: Grid,
    call: Call,
    message: bytes | bytearray | dict[str, Any],
    caller: Caller,
    *,
    keys: Request | None = None,
) -> Reply:
    """Answers one message, of somebody who may send it; see `admit`.

    Args:
        grid: the grid.
        call: which call.
        message: the request as JSON, or parsed; with `keys`, the body of bytes.
        caller: who sends it.
        keys: what came beside a body of bytes.

    Raises:
        InvalidRequestError: the message is not what the call needs.
        GridError: whatever the use case raises.
    """
    if keys is not None and call.run_bytes is not None:
        return await call.run_bytes(grid, keys, message)
    request = parse(call.request, message)
    del message  # it may be large, and the call may take a while
    told: dict[str, object] = {"client": caller.client} if call.of_client else {}
    if call.of_certificate:
        told["certificate"] = caller.certificate
    return await call.run(grid, request, **told)


def parse(kind: type[_R], message: bytes | bytearray | str | dict[str, Any]) -> _R:
    """A message, checked.

    Raises:
        InvalidRequestError: it is not JSON, or lacks something; the message never repeats what was sent.
    """
    try:
        if isinstance(message, dict):
            return kind.model_validate(message)
        _check_number_of_values(message)
        return kind.model_validate_json(message)
    except ValidationError as error:
        raise InvalidRequestError(f"the message is not valid: {explain(error, kind)}") from None


def _check_number_of_values(message: bytes | bytearray | str) -> None:
    """Counts what can stand before a value, also where it stands in a text: it must be fast, not exact.

    `find` goes through a text of megabytes ten times as fast as `count`, where what it looks for is rare.
    """
    marks: Any = (b",", b":", b"[") if not isinstance(message, str) else (",", ":", "[")
    left = _MOST_VALUES
    for mark in marks:
        at = message.find(mark)
        while at >= 0:
            left -= 1
            if left < 0:
                raise InvalidRequestError(
                    f"the message holds more than {_MOST_VALUES} values; no message needs so many"
                )
            at = message.find(mark, at + 1)
