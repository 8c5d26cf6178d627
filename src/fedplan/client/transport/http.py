"""Requests over HTTP, or straight into an ASGI app in this process."""

import email.utils
import json
import logging
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx

from fedplan.client.loops.per_loop import PerLoop
from fedplan.client.transport.answers import (
    MAX_OBJECT_BYTES,
    grid_message,
    parse_object,
    read_json,
    shown,
)
from fedplan.client.transport.exchange import GridAnswer, GridRequest
from fedplan.client.transport.url import GridUrl
from fedplan.errors import (
    GridConnectionError,
    GridResponseError,
    GridTimeoutError,
    MessageTooLargeError,
    WireError,
)
from fedplan.tls import trusted
from fedplan.version import __version__
from fedplan.wire.encoding import ZSTD, ZstdReader
from fedplan.wire.messages import ACCEPT_POST, BINARY

MAX_ANSWER_BYTES = 4 * 1024**3
"""Downloads that are larger, as they come or decompressed, are refused while they arrive, so that a broken
grid cannot fill the worker's memory. Objects may be `MAX_OBJECT_BYTES` large."""

MAX_ERROR_BYTES = 1024**2
"""Of an error whose body is larger only the status is told."""

KEEP_ALIVE_SECONDS = 3.0
"""Idle connections are dropped after this: before common servers (5 s) drop them, which could happen in the
very moment in which a report is sent."""

CONNECT_SECONDS = 10.0

_SERVER_SENT = "text/event-stream"

_STREAM_TIMEOUT = httpx.Timeout(60.0, connect=CONNECT_SECONDS)
"""A stream says every 15 s that it is alive."""


class HttpTransport:
    """Sends requests over HTTP, on connections that are kept open."""

    def __init__(
        self,
        url: GridUrl,
        *,
        timeout: float,
        token: str | None = None,
        app: Any = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Makes a transport; nothing is opened before the first request.

        Args:
            url: the grid.
            timeout: seconds without a sign of the grid after which a request fails.
            token: sent as `Authorization: Bearer`.
            app: an ASGI app that is called instead of a server on the network.
            tls: what it trusts and shows over TLS; when None, what all clients trust.
        """
        self._url = url
        self._timeout = timeout
        self._headers = {
            "User-Agent": f"fedplan/{__version__}",
            "Accept-Encoding": ZSTD if app is None else "identity",  # no line in between, nothing to save
        }
        if token is not None:
            self._headers["Authorization"] = f"Bearer {token}"
        self._app = app
        self._tls = tls
        self._clients = PerLoop(self._open)

    def _open(self) -> httpx.AsyncClient:
        _hide_keys_in_log()
        return httpx.AsyncClient(
            base_url=self._url.http if self._app is None else self._url.origin,
            headers=self._headers,
            timeout=httpx.Timeout(self._timeout, connect=min(CONNECT_SECONDS, self._timeout)),
            limits=httpx.Limits(keepalive_expiry=KEEP_ALIVE_SECONDS),
            verify=self._tls or trusted(),
            transport=httpx.ASGITransport(self._app, raise_app_exceptions=False) if self._app else None,
        )

    @property
    def client(self) -> httpx.AsyncClient:
        """The running loop's client, for what is more than a request and its answer (the speed test)."""
        return self._clients.get()

    async def send(self, request: GridRequest) -> GridAnswer:
        """See `Transport.send`."""
        try:
            async with self._stream(request) as response:
                if response.is_success:
                    most = MAX_OBJECT_BYTES if request.answer == "object" else MAX_ANSWER_BYTES
                    content = await _read(response, request, most)
                else:
                    content = await _read_error(response, request)
        except httpx.RequestError as error:
            raise _connection_error(error, self._url, request) from error
        if request.kept is not None and response.status_code == httpx.codes.NOT_MODIFIED:
            return GridAnswer(content=None, tag=request.kept)
        if not response.is_success:
            raise _response_error(response, content, request)
        if request.answer == "bytes":
            return GridAnswer(content=content, tag=response.headers.get("ETag"))
        return GridAnswer(data=parse_object(content, request.endpoint))

    @property
    def is_in_process(self) -> bool:
        """Whether it calls an app, whose answer httpx gives only when it is whole."""
        return self._app is not None

    async def server_sent(
        self, endpoint: str, query: Mapping[str, str], last_id: str
    ) -> AsyncIterator[tuple[str, str | None]]:
        """Listens to server-sent events, until the grid ends the stream.

        Args:
            endpoint: the stream.
            query: what it is asked for.
            last_id: the id of the last event that is known.

        Yields:
            The id of each event and its data, in one text; None as the data of one that only says its id.

        Raises:
            GridConnectionError: the grid could not be reached, or the connection broke.
            GridResponseError: it refused.
        """
        request = GridRequest(endpoint, query, verb="GET")
        headers = {"Accept": _SERVER_SENT, "Last-Event-ID": last_id, "Accept-Encoding": "identity"}
        stream = self.client.stream(
            "GET", f"/{endpoint}", params=dict(query), headers=headers, timeout=_STREAM_TIMEOUT
        )
        try:
            async with stream as response:
                if not response.is_success:
                    raise _response_error(response, await _read_error(response, request), request)
                if not response.headers.get("Content-Type", "").startswith(_SERVER_SENT):
                    raise GridResponseError(
                        f"the grid's answer to {endpoint} is no stream of events. Is there a proxy in "
                        "between?"
                    )
                async for event in _events(response):
                    yield event
        except httpx.RequestError as error:
            raise _connection_error(error, self._url, request) from error

    def _stream(self, request: GridRequest) -> Any:
        if request.verb == "GET":
            headers = {} if request.kept is None else {"If-None-Match": request.kept}
            return self.client.stream(
                "GET", f"/{request.endpoint}", params=dict(request.data), headers=headers
            )
        if request.body is not None:
            return self.client.stream(
                "POST",
                f"/{request.endpoint}",
                params=dict(request.data),
                content=request.body,
                headers={"Content-Type": BINARY},
            )
        return self.client.stream(
            "POST",
            f"/{request.endpoint}",
            content=json.dumps(dict(request.data)).encode(),
            headers={"Content-Type": "application/json"},
        )

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        client = self._clients.pop()
        if client is not None:
            await client.aclose()


async def _events(response: httpx.Response) -> AsyncIterator[tuple[str, str | None]]:
    """The events of a stream, as the HTML standard has it."""
    id, data = "", list[str]()
    async for line in _lines(response):
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if not line:
            yield id, "\n".join(data) if data else None
            data = []
        elif field == "id":
            id = value
        elif field == "data":
            data.append(value)


async def _lines(response: httpx.Response) -> AsyncIterator[str]:
    """The lines of a text.

    Raises:
        GridResponseError: one of them does not end.
    """
    rest = b""
    async for chunk in response.aiter_raw():
        *lines, rest = (rest + chunk).split(b"\n")
        if len(rest) > MAX_ERROR_BYTES:
            raise GridResponseError("the grid's stream of events has a line that does not end")
        for line in lines:
            yield line.removesuffix(b"\r").decode(errors="replace")


async def _read(response: httpx.Response, request: GridRequest, most: int) -> bytes:
    """The whole body, decompressed here: httpx makes gigabytes of a few bytes before anybody counts them.

    Raises:
        GridResponseError: it is larger than `most` bytes, as it came or decompressed; it is not the zstd that
            it claims to be; or it is compressed in another way.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in ("identity", ZSTD):
        raise GridResponseError(
            f"the answer to {request.endpoint} came with the Content-Encoding '{shown(encoding)}', which "
            "nobody had asked for. Is there a proxy in between?",
            status=response.status_code,
        )
    try:
        return await _decompressed(response, ZstdReader() if encoding == ZSTD else None, most)
    except WireError as error:
        raise GridResponseError(
            f"the grid's answer to {request.endpoint} cannot be read: {error}",
            status=response.status_code,
            damaged=not isinstance(error, MessageTooLargeError),
        ) from error


async def _decompressed(response: httpx.Response, reader: ZstdReader | None, most: int) -> bytes:
    pieces, size = [], 0
    async for chunk in response.aiter_raw():
        for piece in (chunk,) if reader is None else reader.pieces(chunk):
            size += len(piece)
            if max(size, response.num_bytes_downloaded) > most:
                raise MessageTooLargeError(f"it is larger than {most} bytes")
            pieces.append(piece)
    if reader is not None:
        reader.end()
    return b"".join(pieces)


async def _read_error(response: httpx.Response, request: GridRequest) -> bytes:
    """The body of an error; b"" if it cannot be read, for status and headers say enough."""
    try:
        return await _read(response, request, MAX_ERROR_BYTES)
    except (GridResponseError, httpx.RequestError):
        return b""


def _connection_error(error: httpx.RequestError, url: GridUrl, request: GridRequest) -> GridConnectionError:
    reason = shown(str(error)) or type(error).__name__
    unsent = isinstance(
        error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout | httpx.ProxyError
    )
    if isinstance(error, httpx.TimeoutException):
        done = "could not be reached" if unsent else "did not answer"
        advice = "" if unsent else ". It may have done what it was asked for: look at `fedplan status`"
        return GridTimeoutError(f"{url.origin} {done} in time ({request.endpoint}){advice}", sent=not unsent)
    if unsent:
        return GridConnectionError(
            f"{url.origin} could not be reached ({reason}). Is the grid running, and the URL right?",
            sent=False,
        )
    return GridConnectionError(f"the connection to {url.origin} broke in {request.endpoint} ({reason})")


def _response_error(response: httpx.Response, content: bytes, request: GridRequest) -> GridResponseError:
    message = grid_message(read_json(content))
    worded = message is not None
    if message is None:  # not written by a grid
        message = f"{response.status_code} {shown(response.reason_phrase)}".rstrip()
        if response.is_redirect:
            where = shown(response.headers.get("Location", "somewhere else"))
            message += f"; it has moved to {where}: use that URL"
    return GridResponseError(
        f"the grid refused {request.endpoint}: {message}",
        status=response.status_code,
        retry_after=_retry_after(response.headers),
        accepts=response.headers.get(ACCEPT_POST, ""),
        worded=worded,
    )


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that the header Retry-After asks for: it holds a number, or a date."""
    value = headers.get("Retry-After")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


class _KeysHidden(logging.Filter):
    """httpx logs whole URLs; the query of a download holds the worker's request key."""

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(
                arg.copy_with(query=None)
                if isinstance(arg, httpx.URL) and b"request_key" in arg.query
                else arg
                for arg in record.args
            )
        return True


_KEYS_HIDDEN = _KeysHidden()


def _hide_keys_in_log() -> None:
    logging.getLogger("httpx").addFilter(_KEYS_HIDDEN)  # adding it again changes nothing
