"""Messages over a WebSocket; downloads, and bodies of bytes, go over HTTP."""

import asyncio
import dataclasses
import json
import logging
import secrets
import ssl
from collections.abc import Mapping
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidURI, WebSocketException

from fedplan.client.loops.per_loop import PerLoop
from fedplan.client.transport.answers import MAX_OBJECT_BYTES, grid_message, read_json, shown
from fedplan.client.transport.exchange import GridAnswer, GridRequest, Transport
from fedplan.client.transport.http import CONNECT_SECONDS
from fedplan.client.transport.url import GridUrl
from fedplan.errors import GridConnectionError, GridResponseError, GridTimeoutError
from fedplan.tls import trusted
from fedplan.version import __version__
from fedplan.wire.messages import SOCKET_PING

PING_SECONDS = 20.0
"""The connection is kept alive, and a dead one noticed, by a ping this often."""

_frames = logging.getLogger("fedplan.client.frames")
_frames.setLevel(logging.INFO)  # websockets logs frames at DEBUG, and they hold tokens and keys


class WebSocketTransport:
    """Sends messages over one WebSocket, which is opened when needed and opened again when it was lost."""

    def __init__(
        self, url: GridUrl, downloads: Transport, *, timeout: float, tls: ssl.SSLContext | None = None
    ) -> None:
        """Makes a transport; nothing is opened before the first message.

        Args:
            url: the grid.
            downloads: carries the GETs, and bodies of bytes.
            timeout: seconds to wait for an answer.
            tls: what it trusts and shows over TLS; when None, what all clients trust.
        """
        self._url = url
        self._tls = tls
        self._downloads = downloads
        self._timeout = timeout
        self._lines = PerLoop(_Line)

    async def send(self, request: GridRequest) -> GridAnswer:
        """See `Transport.send`."""
        if request.verb == "GET" or request.body is not None:
            return await self._downloads.send(request)
        channel = await self._open()
        try:
            async with asyncio.timeout(self._timeout):
                data, status, retry_after = await channel.exchange(request.endpoint, request.data)
        except TimeoutError:
            # A late answer could be taken for that to a later message of the same type.
            await channel.aclose()
            raise GridTimeoutError(
                f"{self._url.origin} did not answer {request.endpoint} within {self._timeout:g} s"
            ) from None
        message = grid_message(data)
        if message is not None:
            raise GridResponseError(
                f"the grid refused {request.endpoint}: {message}", status=status, retry_after=retry_after
            )
        return GridAnswer(data=data)

    async def _open(self) -> "_Channel":
        line = self._lines.get()
        async with line.lock:
            if line.channel is None or line.channel.closed:
                line.channel = _Channel(await self._connect(), self._url)
            return line.channel

    async def _connect(self) -> ClientConnection:
        try:
            return await connect(
                self._url.websocket,
                ssl=(self._tls or trusted()) if self._url.secure else None,
                compression=None,  # weights do not compress, and trying costs more than sending them
                max_size=MAX_OBJECT_BYTES,
                open_timeout=min(CONNECT_SECONDS, self._timeout),
                ping_interval=PING_SECONDS,
                close_timeout=1.0,
                user_agent_header=f"fedplan/{__version__}",
                logger=_frames,
            )
        except TimeoutError:
            raise GridTimeoutError(f"{self._url.origin} could not be reached in time", sent=False) from None
        except InvalidURI as error:  # a redirect to http://…, as proxies answer where a slash is missing
            raise GridConnectionError(
                f"{self._url.origin} opens no WebSocket at this URL, and says that it has moved to "
                f"{shown(error.uri)}: use that URL, with the slash at its end if it has one",
                sent=False,
            ) from error
        except (OSError, WebSocketException) as error:
            raise GridConnectionError(
                f"no WebSocket to {self._url.origin} could be opened ({shown(str(error))}). Is the grid "
                "running, and the URL right?",
                sent=False,
            ) from error

    async def aclose(self) -> None:
        """See `Transport.aclose`."""
        line = self._lines.pop()
        if line is not None and line.channel is not None:
            await line.channel.aclose()
        await self._downloads.aclose()


@dataclasses.dataclass(slots=True)
class _Line:
    """One event loop's way to the grid: the present connection, and a lock so that only one is opened."""

    lock: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)
    channel: "_Channel | None" = None


_Answer = tuple[Mapping[str, Any], int | None, float | None]
"""The data of an answer; and where the grid tells it, the status that it would have over HTTP, and after how
many seconds to come again."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Pending:
    """A message that waits for its answer."""

    type: str
    answer: asyncio.Future[_Answer]


class _Channel:
    """One open WebSocket: matches answers to messages by request_id, or by type where it is not echoed."""

    def __init__(self, socket: ClientConnection, url: GridUrl) -> None:
        self._socket = socket
        self._url = url
        self._pending: dict[str, _Pending] = {}
        self._reader = asyncio.create_task(self._read(), name="fedplan websocket reader")

    @property
    def closed(self) -> bool:
        return self._reader.done()

    async def exchange(self, type: str, data: Mapping[str, Any]) -> _Answer:
        """Sends one message and waits for its answer."""
        request_id = secrets.token_hex(8)
        pending = _Pending(type, asyncio.get_running_loop().create_future())
        self._pending[request_id] = pending
        try:
            message = {"type": type, "data": dict(data), "request_id": request_id, "tell_status": True}
            await self._socket.send(json.dumps(message))
            return await pending.answer
        except ConnectionClosed as error:
            raise self._broken(error) from error
        finally:
            del self._pending[request_id]

    async def _read(self) -> None:
        reason: Exception | None = None
        try:
            async for frame in self._socket:
                self._deliver(frame)
        except ConnectionClosed as error:
            reason = error
        for pending in self._pending.values():
            if not pending.answer.done():
                pending.answer.set_exception(self._broken(reason))

    def _broken(self, reason: Exception | None) -> GridConnectionError:
        why = "the grid closed it" if reason is None else shown(str(reason))
        return GridConnectionError(f"the WebSocket to {self._url.origin} broke ({why})")

    def _deliver(self, frame: str | bytes) -> None:
        message = read_json(frame)
        if not isinstance(message, dict):
            return  # not of this protocol
        pending = self._match(message)
        if pending is not None and not pending.answer.done():
            data = message.get("data", message)  # some nodes send a bare {"error": …}
            told, later = message.get("status"), message.get("retry_after")
            status = told if type(told) is int else None
            retry_after = later if isinstance(later, int | float) and later >= 0 else None
            pending.answer.set_result((data if isinstance(data, dict) else {}, status, retry_after))

    def _match(self, message: Mapping[str, Any]) -> _Pending | None:
        request_id = message.get("request_id")
        if request_id is not None:
            return self._pending.get(request_id) if isinstance(request_id, str) else None
        waiting = [p for p in self._pending.values() if not p.answer.done()]
        if "alive" in message:  # what a PyGrid node says to a keep-alive message, without its type
            return next((p for p in waiting if p.type == SOCKET_PING), None)
        if "type" not in message:
            return waiting[0] if "error" in message and waiting else None
        return next((p for p in waiting if p.type == message["type"]), None)

    async def aclose(self) -> None:
        await self._socket.close()
        await self._reader
