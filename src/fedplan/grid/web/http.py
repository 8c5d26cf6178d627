"""The HTTP transport: the calls of the table, the downloads, and the speed test."""

import asyncio
import contextlib
import dataclasses
import functools
import math
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from fastapi import APIRouter, Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import ValidationError
from pydantic_core import to_json
from starlette.datastructures import Headers

from fedplan.errors import (
    GridError,
    InvalidRequestError,
    MessageTooLargeError,
    OverloadedError,
    SlowRequestError,
)
from fedplan.grid.grid import Grid
from fedplan.grid.records import Scope
from fedplan.grid.service import downloads
from fedplan.grid.service.downloads import Source, fetch, tag_of
from fedplan.grid.service.retrieving import retrieve_model, retrieve_plan
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.calls import CALLS, Call, admit, perform
from fedplan.grid.web.pieces import Pieces
from fedplan.grid.web.replies import RETRY_SECONDS, outcome
from fedplan.wire import messages
from fedplan.wire.encoding import ZSTD, takes_zstd
from fedplan.wire.messages import (
    ACCEPT_POST,
    BINARY,
    GET_MODEL,
    GET_PLAN,
    GET_PROTOCOL,
    RETRIEVE_MODEL,
    RETRIEVE_PLAN,
    SPEED_TEST,
    SPEED_TEST_BYTES,
    Reply,
    dump,
)


class DirectRoute(APIRoute):
    """A route whose function gets the request and reads it itself: what FastAPI would do takes longer."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The function as it is."""
        return self.endpoint


calls = APIRouter(route_class=DirectRoute)
"""The calls and downloads of the tables."""

router = APIRouter()
"""The others."""

_PIECE = os.urandom(1024 * 1024)  # random, so that no proxy's compression flatters the speed

_MOST_UPLOADED = SPEED_TEST_BYTES + 1024 * 1024
"""Bytes of a speed test's upload, in any form. It is not kept, so the limit of messages is not for it."""

_LINGER_SECONDS = 1.0

_LOOSE_BYTES = 4 * 1024 * 1024
"""Of a body, as pieces. For small ones to join these is faster than to let a buffer grow."""

_BODY_IS_LEFT = (408, 413, 429, 503)
"""Statuses that may be sent before the body has come."""

_Q = TypeVar("_Q", bound=messages.Request)

Handler = Callable[..., Awaitable[Reply | Response]]


def answered(name: str) -> Callable[[Handler], Callable[..., Awaitable[Response]]]:
    """Makes a handler's errors into answers, its replies into JSON, and counts it.

    Args:
        name: of the call, for the metrics.
    """

    def wrap(handler: Handler) -> Callable[..., Awaitable[Response]]:
        @functools.wraps(handler)
        async def run(request: Request, **arguments: object) -> Response:
            grid: Grid = request.app.state.grid
            started = time.perf_counter()
            result = await outcome(handler(request, **arguments))
            response = to_response(result)
            if getattr(request.state, "is_cut_off", False):
                response.headers["connection"] = "close"  # else the rest of the body would be read
            if request.headers.get("content-type") == BINARY:
                response.headers[ACCEPT_POST] = f"application/json, {BINARY}"
            grid.metrics.requests.labels(name, "http", str(response.status_code)).inc()
            grid.metrics.seconds.labels(name).observe(time.perf_counter() - started)
            return response

        return run

    return wrap


def to_response(result: Response | Reply | tuple[int, Reply]) -> Response:
    """What is sent for a reply or a refusal; keys without a value are left out."""
    if isinstance(result, Response):
        return result
    code, reply = result if isinstance(result, tuple) else (200, result)
    headers = {"retry-after": str(RETRY_SECONDS[code])} if code in RETRY_SECONDS else {}
    if code in _BODY_IS_LEFT:
        headers["connection"] = "close"  # else the rest of the body would be read, to no end
    return Response(to_json(dump(reply)), code, headers, media_type="application/json")


def _add_call(type: str, call: Call) -> None:
    """Serves a call of the table under its type as the path."""

    @answered(type)
    async def handler(request: Request) -> Reply:
        grid: Grid = request.app.state.grid
        caller, keys = Caller.at(request, grid.certificates), None
        async with body_left(request):
            if call.bytes_request is not None and request.headers.get("content-type") == BINARY:
                keys = parse_query(call.bytes_request, request)
            await admit(grid, call, caller, keys)
        limit = min(call.most_bytes or math.inf, grid.settings.max_message_bytes)
        with grid.intake.share() as take:
            body = await read_body(request, limit, take)
            return await perform(grid, call, body, caller, keys=keys)

    calls.add_api_route(f"/{type}", handler, methods=["POST"], name=type, response_model=None)


for _type, _call in CALLS.items():
    _add_call(_type, _call)


def parse_query(kind: type[_Q], request: Request) -> _Q:
    """What a query holds, checked.

    Raises:
        InvalidRequestError: it lacks something; names are told, values are not (they may be request keys).
    """
    try:
        return kind.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise lacking(error.errors(include_input=False)) from None


def lacking(errors: Sequence[Any]) -> InvalidRequestError:
    """The error for a query in which something is missing or wrong."""
    names = ", ".join(sorted({str(error["loc"][-1]) for error in errors}))
    return InvalidRequestError(f"missing or wrong in the query: {names}")


async def read_body(request: Request, limit: float, take: Callable[[int], None]) -> bytes | bytearray:
    """The whole body. A large one is put together as it comes: joined at the end it would take double.

    Args:
        request: whose body.
        limit: most bytes.
        take: called with the size of each piece before it is kept; raises when there is no room.

    Raises:
        MessageTooLargeError: it is larger than the limit.
        OverloadedError: there is no room for it.
        SlowRequestError: it stopped coming.
        InvalidRequestError: the connection broke.
    """
    whole, pieces, loose = bytearray(), list[bytes](), 0

    def keep(piece: bytes) -> None:
        nonlocal loose
        take(len(piece))
        pieces.append(piece)
        loose += len(piece)
        if loose > _LOOSE_BYTES:
            whole.extend(b"".join(pieces))
            pieces.clear()
            loose = 0

    try:
        await each_piece(request, limit, keep)
    except OverloadedError:
        await drop_rest(request)
        raise
    rest = pieces[0] if len(pieces) == 1 else b"".join(pieces)
    if not whole:
        return rest
    whole.extend(rest)
    return whole


async def drop_rest(request: Request) -> bool:
    """Reads on for a moment: whoever is cut off while sending does not see the answer.

    Returns:
        Whether the body came to its end.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_LINGER_SECONDS):
            while (await request.receive()).get("more_body"):
                pass
            return True
    return False


@contextlib.asynccontextmanager
async def body_left(request: Request) -> AsyncIterator[None]:
    """A block before the body is read: if it raises, nothing of the body is kept."""
    try:
        yield
    except GridError:
        request.state.is_cut_off = not await drop_rest(request)
        raise


async def each_piece(request: Request, limit: float, keep: Callable[[bytes], object]) -> None:
    """Hands on the body as it comes; errors as for `read_body`."""
    patience = request.app.state.grid.settings.body_pause_seconds
    clock, size = asyncio.get_running_loop().time, 0
    try:
        async with asyncio.timeout(patience) as pause:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise InvalidRequestError("the connection broke while the body was being read")
                piece = message.get("body", b"")
                size += len(piece)
                if size > limit:
                    break
                keep(piece)
                if not message.get("more_body"):
                    return
                pause.reschedule(clock() + patience)
    except TimeoutError:
        raise SlowRequestError(f"nothing more of the body came for {patience:g} seconds") from None
    await drop_rest(request)
    raise MessageTooLargeError(f"the body is larger than {limit} bytes, the limit of this call")


@dataclasses.dataclass(frozen=True, slots=True)
class Download:
    """One download of the protocol.

    Attributes:
        query: what its query holds.
        run: the use case, which finds the source.
        reads: whether the use case is told why who asks may not read checkpoints, if it may not.
    """

    query: type[messages.Request]
    run: Callable[..., Awaitable[Source]]
    reads: bool = False


DOWNLOADS: dict[str, Download] = {
    GET_MODEL: Download(messages.ModelRequest, downloads.get_model),
    GET_PLAN: Download(messages.PlanRequest, downloads.get_plan),
    GET_PROTOCOL: Download(messages.ProtocolRequest, downloads.get_protocol),
    RETRIEVE_MODEL: Download(messages.RetrieveRequest, retrieve_model, reads=True),
    RETRIEVE_PLAN: Download(messages.RetrievePlanRequest, retrieve_plan, reads=True),
}
"""By message type, which is also the path."""


def _add_download(type: str, download: Download) -> None:
    """Serves a download of the table under its type as the path."""

    @answered(type)
    async def handler(request: Request) -> Response:
        grid: Grid = request.app.state.grid
        query = parse_query(download.query, request)
        asker = {}
        if download.reads:
            asker["refusal"] = await grid.access.refusal(Caller.of(request.headers), Scope.READ)
        return await send(grid, await download.run(grid, query, **asker), request.headers)

    calls.add_api_route(f"/{type}", handler, methods=["GET"], name=type, response_model=None)


for _type, _download in DOWNLOADS.items():
    _add_download(_type, _download)


@router.get(f"/{SPEED_TEST}", response_model=None)
@answered(SPEED_TEST)
async def speed_download(
    request: Request, worker_id: str, random: str, is_ping: str | None = None
) -> Response:
    """64 MiB to measure the download with, or nothing (`is_ping`) to measure the round trip."""
    if is_ping is not None:
        return to_response(Reply())
    return _stream(SPEED_TEST_BYTES, _noise(), {})


@router.post(f"/{SPEED_TEST}", response_model=None)
@answered(SPEED_TEST)
async def speed_upload(request: Request, worker_id: str, random: str) -> Reply:
    """Takes an upload, in whatever form, and drops it as it comes."""
    await each_piece(request, _MOST_UPLOADED, lambda _piece: None)
    return Reply()


async def _noise() -> AsyncIterator[bytes]:
    for _ in range(SPEED_TEST_BYTES // len(_PIECE)):
        yield _PIECE


async def send(grid: Grid, source: Source, asked: Headers) -> Response:
    """A download as it is asked for, or nothing to a client that has it in a form that it takes."""
    zstd = takes_zstd(asked.get("accept-encoding", ""))
    kept = asked.get("if-none-match")
    if kept is not None:
        for encoding in (ZSTD, None) if zstd else (None,):
            headers = _described(source, encoding)
            if headers["etag"] in kept:
                return Response(status_code=304, headers=headers)
    download = await fetch(grid, source, zstd=zstd)
    headers = _described(source, download.encoding)
    if download.encoding is not None:
        headers["content-encoding"] = download.encoding
    if isinstance(download.content, bytes):
        return Pieces(download.content, media_type=BINARY, headers=headers)
    return _stream(download.size, download.content, headers)


def _described(source: Source, encoding: str | None) -> dict[str, str]:
    """What caches need to know: each form has a tag of its own (RFC 9110, 8.8.3.3)."""
    return {"etag": f'"{tag_of(source, encoding)}"', "vary": "Accept-Encoding"}


def _stream(size: int, pieces: AsyncIterator[bytes], headers: dict[str, str]) -> Response:
    return StreamingResponse(pieces, headers=headers | {"content-length": str(size)}, media_type=BINARY)
