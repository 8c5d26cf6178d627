"""The WebSocket transport: envelopes in, envelopes out, on the same table of calls as HTTP."""

import time
from collections.abc import Collection
from typing import Annotated, Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from pydantic import Field
from pydantic_core import to_json

from fedplan.errors import InvalidRequestError
from fedplan.grid.clients import Client
from fedplan.grid.grid import Grid
from fedplan.grid.observing.correlation import Correlation, answering, current, id_for
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.calls import CALLS, admit, parse, perform
from fedplan.grid.web.replies import RETRY_SECONDS, outcome, refusal
from fedplan.wire.messages import SOCKET_PING, CycleRejected, Reply, Request, dump

router = APIRouter()

FOR_GOOD_SECONDS = 365 * 86_400
"""When a client may ask again that shall not, and reads no rejection without a time."""


@router.websocket("/")
async def converse(socket: WebSocket) -> None:
    """Answers the messages of one connection, one after the other. Nothing of a worker is tied to it."""
    grid: Grid = socket.app.state.grid
    caller = Caller.at(socket, grid.certificates)
    if not _is_welcome(grid.settings.cors_origins, caller):
        await socket.close()  # before it is accepted: 403
        return
    await socket.accept()
    try:
        while True:
            message = await socket.receive()
            if message["type"] == "websocket.disconnect":
                return
            await socket.send_text(
                await answer(grid, message.get("text") or message.get("bytes") or b"", caller)
            )
    except WebSocketDisconnect:
        return  # the worker went while it was being answered; it may go on over another connection


def _is_welcome(allowed: Collection[str], caller: Caller) -> bool:
    """Whether the page that opens a socket may use the grid; browsers leave it to the server to look."""
    return "*" in allowed or caller.origin in allowed or not caller.is_foreign_page


class Frame(Request):
    """A message as it comes: read so leniently that every fault in it can be answered by type and id."""

    type: Annotated[str, Field(max_length=200)]
    data: Any = None
    request_id: Any = None
    tell_status: Any = None
    """True where a refusal is to say the status that it has over HTTP; nobody is told who does not ask."""


async def answer(grid: Grid, raw: bytes | str, caller: Caller) -> str:
    """The answer to one message: same `type`, same `request_id` when one came, and `data`.

    A refusal has the `status` beside them, where it is asked for, and `retry_after` if it is one for now.
    """
    started = time.perf_counter()
    result: Reply | tuple[int, Reply]
    try:
        frame = parse(Frame, raw)
    except InvalidRequestError as error:
        frame = Frame(type="error")
        result = refusal(error)
    else:
        with answering(_correlation(frame)):
            result = await outcome(_reply(grid, frame, caller))
    status, reply = result if isinstance(result, tuple) else (200, result)
    label = frame.type if frame.type in CALLS else "other"
    grid.metrics.requests.labels(label, "ws", str(status)).inc()
    grid.metrics.seconds.labels(label).observe(time.perf_counter() - started)
    return _seal(frame, status, reply)


def _correlation(frame: Frame) -> Correlation:
    """The message's own: its `request_id` is its id, if it can be one."""
    connection = current()
    return Correlation(id_for(frame.request_id), None if connection is None else connection.address)


async def _reply(grid: Grid, frame: Frame, caller: Caller) -> Reply:
    request = current()
    grid.rates.take(None if request is None else request.address)
    if frame.type == SOCKET_PING:
        return Reply()
    call = CALLS.get(frame.type)
    if call is None:
        known = ", ".join([*CALLS, SOCKET_PING])
        raise InvalidRequestError(f"there is no message type '{frame.type}'; there are {known}")
    if not isinstance(frame.data, dict):
        raise InvalidRequestError("'data' is not an object")
    await admit(grid, call, caller, None)
    return _readable(await perform(grid, call, frame.data, caller), caller.client)


def _readable(reply: Reply, client: Client) -> Reply:
    """The reply, as the client's decoder of WebSocket messages can read it."""
    kind = client.recognised
    if kind is not None and kind.times_rejections and isinstance(reply, CycleRejected):
        timeout = FOR_GOOD_SECONDS if reply.timeout is None else reply.timeout
        return reply.model_copy(update={"timeout": timeout})
    return reply


def _seal(frame: Frame, status: int, reply: Reply) -> str:
    sealed: dict[str, Any] = {"type": frame.type, "data": dump(reply)}
    if frame.tell_status is True and status != 200:
        sealed["status"] = status
        if status in RETRY_SECONDS:
            sealed["retry_after"] = RETRY_SECONDS[status]
    if "request_id" in frame.model_fields_set:
        sealed["request_id"] = frame.request_id
    return to_json(sealed, inf_nan_mode="null").decode()  # a request_id may be NaN, which is not JSON
