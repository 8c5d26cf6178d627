"""The calls that a grid answers, typed. How they travel is the transport's business."""

import dataclasses
import logging
import re
import ssl
from collections.abc import Hashable, Mapping
from typing import Any, Self, TypeVar

import pybase64
import pydantic

from fedplan.client.counts import positive_seconds
from fedplan.client.events import Rejected
from fedplan.client.transport.answers import grid_message, shown
from fedplan.client.transport.exchange import (
    GridAnswer,
    GridRequest,
    Retry,
    RetryingTransport,
    Transport,
    passes,
)
from fedplan.client.transport.http import HttpTransport
from fedplan.client.transport.secure import SecureCalls
from fedplan.client.transport.speed import ConnectionSpeed, measure_speed
from fedplan.client.transport.url import GridUrl, check_token
from fedplan.client.transport.websocket import WebSocketTransport
from fedplan.errors import ConfigError, GridConnectionError, GridResponseError
from fedplan.wire import messages
from fedplan.wire.config import explain
from fedplan.wire.messages import (
    AuthenticateReply,
    AuthenticateRequest,
    CycleAccepted,
    CycleRequest,
    EvaluateReply,
    HistoryReply,
    HostTrainingRequest,
    Part,
    ReportRequest,
    StatusReply,
)

_log = logging.getLogger("fedplan.client")
_R = TypeVar("_R", bound=pydantic.BaseModel)
_M = TypeVar("_M", bound=messages.Request)

_NO_SUCH_CALL = 404

_FAILED_REJECTION = re.compile(
    r": ('num_cycles'|unsupported operand type\(s\) for -: 'NoneType' and 'datetime\.datetime'"
    r"|'<' not supported between instances of 'int' and 'NoneType')Traceback"
)
"""What a PyGrid node says when it rejects a worker of a model without a `num_cycles` or a `cycle_length`: it
fails when it works out what is left of the cycle."""

_NOT_KNOWN = (None, 400, 404, 405, 411, 415, 422, 500, 501)
"""HTTP statuses of servers that do not know a form of body; None: an error with the status 200."""


class GridApi:
    """One grid's calls. Every call raises GridConnectionError, GridTimeoutError or GridResponseError."""

    def __init__(
        self, transport: Transport, downloads: HttpTransport, socket: WebSocketTransport | None = None
    ) -> None:
        """Calls over these transports.

        Args:
            transport: carries all calls.
            downloads: its HTTP client does the speed test.
            socket: carries what must go over a WebSocket; None where there is none.
        """
        self._transport = transport
        self._downloads = downloads
        self._socket = socket
        self._takes_binary = True
        self._kept: dict[tuple[str, Hashable], GridAnswer] = {}
        """What is the same in every cycle: Plans and Protocols by call and id, frozen tensors by model."""

    @classmethod
    def connect(
        cls,
        url: GridUrl,
        *,
        timeout: float,
        retry: Retry,
        token: str | None = None,
        app: Any = None,
        websocket: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> Self:
        """Calls over what the URL asks for; nothing is opened yet.

        Args:
            url: the grid.
            timeout: seconds to wait for an answer.
            retry: how failed calls are repeated.
            token: sent with each HTTP request as `Authorization: Bearer`.
            app: an ASGI app to call in this process, whatever the URL.
            websocket: False to use HTTP although the URL is ws:// or wss://.
            tls: what it trusts and shows over TLS; when None, what all clients trust.

        Raises:
            ConfigError: the timeout is no time, or the token nothing that a header can hold.
        """
        timeout = positive_seconds(timeout, "timeout")
        if token is not None:
            check_token(token)
        http = HttpTransport(url, timeout=timeout, token=token, app=app, tls=tls)
        socket = WebSocketTransport(url, http, timeout=timeout, tls=tls) if app is None else None
        chosen = socket if websocket and url.prefers_websocket and socket is not None else http
        return cls(RetryingTransport(chosen, retry), http, socket)

    async def authenticate(self, name: str, version: str, auth_token: str | None) -> AuthenticateReply:
        """Becomes a worker for a model."""
        request = message_of(
            AuthenticateRequest, model_name=name, model_version=version, auth_token=auth_token
        )
        data = await self._post(messages.AUTHENTICATE, request, idempotent=True)
        return _read(AuthenticateReply, data, messages.AUTHENTICATE)

    async def measure_speed(self, worker_id: str) -> ConnectionSpeed:
        """Measures the connection to the grid."""
        return await measure_speed(self._downloads.client, worker_id)

    async def request_cycle(
        self,
        worker_id: str,
        name: str,
        version: str,
        speed: ConnectionSpeed | None,
        *,
        evaluates: bool = False,
    ) -> CycleAccepted | Rejected:
        """Asks to join the model's cycle.

        Args:
            worker_id: what the grid calls the worker.
            name: of the model.
            version: its version.
            speed: None when no speed test was asked for.
            evaluates: whether the worker takes a place in which it only measures the model.
        """
        request = message_of(
            CycleRequest,
            worker_id=worker_id,
            model=name,
            version=version,
            tell_cycle=True,
            summary=True,
            secure_aggregation=True,
            evaluates=evaluates or None,
            **({} if speed is None else dataclasses.asdict(speed)),
        )
        try:
            data = await self._post(messages.CYCLE_REQUEST, request)
        except GridResponseError as error:
            if _FAILED_REJECTION.search(str(error)) is None:
                raise
            return Rejected(0.0, at_latest=True)
        if data.get("status") == "accepted":
            return _read(CycleAccepted, data, messages.CYCLE_REQUEST)
        if data.get("status") == "rejected":
            timeout, reason = data.get("timeout"), data.get("reason")
            return Rejected(
                parse_timeout(timeout),
                at_latest=isinstance(timeout, str) and ":" in timeout,
                reason=shown(reason) if isinstance(reason, str) else None,
            )
        raise GridResponseError("the grid neither accepted nor rejected the cycle request. Is it a grid?")

    async def get_model(
        self, worker_id: str, request_key: str, model_id: int, part: Part | None = None
    ) -> bytes:
        """Downloads the cycle's model, a State, or the part that is asked for; see `ModelRequest`."""
        query: dict[str, str | int] = {} if part is None else {"part": part}
        return await self._get(
            messages.GET_MODEL, worker_id=worker_id, request_key=request_key, model_id=model_id, **query
        )

    async def get_frozen(self, worker_id: str, request_key: str, model_id: int, whose: Hashable) -> bytes:
        """Downloads the frozen part of the cycle's model, unless it is here from an earlier cycle of a model.

        Args:
            worker_id: what the grid calls the worker.
            request_key: of its place.
            model_id: the checkpoint from which the cycle starts.
            whose: tells the model from others.
        """
        return await self._get_again(
            messages.GET_MODEL,
            whose,
            worker_id=worker_id,
            request_key=request_key,
            model_id=model_id,
            part="frozen",
        )

    async def get_plan(self, worker_id: str, request_key: str, plan_id: int) -> bytes:
        """Downloads a Plan as a list of operations, unless it is here from an earlier cycle."""
        return await self._get_again(
            messages.GET_PLAN,
            plan_id,
            worker_id=worker_id,
            request_key=request_key,
            plan_id=plan_id,
            receive_operations_as=messages.PLAN_VARIANTS[0],
        )

    async def get_protocol(self, worker_id: str, request_key: str, protocol_id: int) -> bytes:
        """Downloads a Protocol."""
        return await self._get_again(
            messages.GET_PROTOCOL,
            protocol_id,
            worker_id=worker_id,
            request_key=request_key,
            protocol_id=protocol_id,
        )

    async def report(self, worker_id: str, request_key: str, diff: bytes, *, again: bool = False) -> None:
        """Hands in a diff, a State's bytes.

        It is sent once, unless `again` says that the grid takes the same report again, without counting it
        twice, when the answer was lost. Others refuse a second one.

        It goes as these bytes over HTTP, which is the least work for both sides. A grid that does not know
        this form (PyGrid) says that the message is wrong; it gets base64 in JSON, then and from then on.
        """
        if self._takes_binary:
            keys = messages.ReportKeys(worker_id=worker_id, request_key=request_key).model_dump()
            try:
                await self._send(GridRequest(messages.REPORT, keys, body=diff, idempotent=again))
                return
            except GridResponseError as error:
                if error.status not in _NOT_KNOWN or messages.BINARY in error.accepts:
                    raise
                self._takes_binary = False
        text = pybase64.b64encode_as_string(diff)
        request = ReportRequest(worker_id=worker_id, request_key=request_key, diff=text)
        await self._post(messages.REPORT, request, idempotent=again)

    @property
    def secure(self) -> SecureCalls:
        """The calls of secure aggregation."""
        return SecureCalls(self._transport)

    async def decline(self, worker_id: str, request_key: str, reason: str | None) -> None:
        """Gives a place in a cycle back. It lapses by itself where the grid knows no such call."""
        request = messages.DeclineRequest(worker_id=worker_id, request_key=request_key, reason=reason)
        try:
            await self._post(messages.DECLINE, request, idempotent=True)
        except GridResponseError as error:
            if passes(error):
                raise
            _log.debug("the place in the cycle is not given back, and lapses: %s", error)

    async def host_training(self, request: HostTrainingRequest, *, over_socket: bool = False) -> None:
        """Hosts a model with its Plans, over a WebSocket where that is the only way, as at a PyGrid node."""
        await self._post(messages.HOST_TRAINING, request, over_socket=over_socket)

    async def is_pygrid(self, name: str) -> bool:
        """Whether it is a PyGrid node, by what it answers.

        Its HTTP has no status but a page that says so, where every grid of fedplan has an answer of its own;
        and it answers a WebSocket's keep-alive message with words that nobody else uses.

        Args:
            name: of a model, for a short answer.
        """
        try:
            await self.status(name)
        except GridResponseError as error:
            if error.status != _NO_SUCH_CALL or error.worded or self._socket is None:
                return False
        else:
            return False
        try:
            answer = await self._socket.send(GridRequest(messages.SOCKET_PING, {}))
        except (GridConnectionError, GridResponseError):
            return False
        return "alive" in answer.data

    async def retrieve(self, endpoint: str, name: str, version: str, **what: int | str) -> bytes:
        """Downloads what belongs to a hosted model: a checkpoint, which is a State, or a Plan."""
        return await self._get(endpoint, name=name, version=version, **what)

    async def status(self, name: str | None) -> StatusReply:
        """Asks how the hosted models are doing; `name` picks those of one name."""
        return await self.look(messages.STATUS, StatusReply, name=name)

    async def history(self, name: str, version: str) -> HistoryReply:
        """Asks what came of a model's cycles."""
        return await self.look(messages.HISTORY, HistoryReply, name=name, version=str(version))

    async def look(self, endpoint: str, kind: type[_R], **query: str | int | None) -> _R:
        """Asks for something that the grid shows; what is None is not in the query."""
        given = {name: value for name, value in query.items() if value is not None}
        asked = GridRequest(endpoint, given, verb="GET", idempotent=True)
        return _read(kind, await self._send(asked), endpoint)

    async def control(self, call: str, sent: messages.Request, kind: type[_R], *, again: bool = True) -> _R:
        """Makes a call with which a model's owner controls it; `again`: twice is no more than once."""
        return _read(kind, await self._post(call, sent, idempotent=again), call)

    @property
    def http(self) -> HttpTransport:
        """For what is more than a request and its answer."""
        return self._downloads

    async def evaluate(self, name: str, version: str) -> EvaluateReply:
        """Asks for an evaluation of a model's newest checkpoint."""
        request = message_of(messages.EvaluateRequest, name=name, version=str(version))
        data = await self._post(messages.EVALUATE, request, idempotent=True)
        return _read(EvaluateReply, data, messages.EVALUATE)

    async def aclose(self) -> None:
        """Closes the connections of the running event loop."""
        await self._transport.aclose()
        if self._socket is not None:
            await self._socket.aclose()

    async def _post(
        self,
        endpoint: str,
        message: messages.Request,
        *,
        idempotent: bool = False,
        over_socket: bool = False,
    ) -> Mapping[str, Any]:
        data = message.model_dump(exclude_none=True)
        socket = self._socket if over_socket else None
        return await self._send(GridRequest(endpoint, data, idempotent=idempotent), socket)

    async def _send(self, request: GridRequest, way: Transport | None = None) -> Mapping[str, Any]:
        reply = (await (way or self._transport).send(request)).data
        if isinstance(reply.get("data"), dict):  # a PyGrid node sends an envelope over HTTP too
            reply = reply["data"]
        error = grid_message(reply)
        if error is not None:  # some nodes send it with the status 200
            raise GridResponseError(f"the grid refused {request.endpoint}: {error}")
        return reply

    async def _get(self, endpoint: str, **query: str | int) -> bytes:
        answer = await self._transport.send(_download(endpoint, query))
        return answer.content or b""

    async def _get_again(self, endpoint: str, id: Hashable, **query: str | int) -> bytes:
        """Downloads what may be here already."""
        kept = self._kept.get((endpoint, id), GridAnswer())
        answer = await self._transport.send(_download(endpoint, query, kept.tag))
        if answer.content is None:
            answer = kept
        elif answer.tag is not None:
            self._kept[endpoint, id] = answer
        return answer.content or b""


def message_of(kind: type[_M], **fields: Any) -> _M:
    """A message to the grid.

    Raises:
        ConfigError: what the user gave cannot stand in it; says which, and why.
    """
    try:
        return kind(**fields)
    except pydantic.ValidationError as error:
        raise ConfigError(explain(error, kind)) from None


def _download(endpoint: str, query: Mapping[str, Any], kept: str | None = None) -> GridRequest:
    return GridRequest(endpoint, query, verb="GET", answer="bytes", idempotent=True, kept=kept)


def _read(kind: type[_R], data: object, endpoint: str) -> _R:
    try:
        return kind.model_validate(data)
    except pydantic.ValidationError as error:
        raise GridResponseError(
            f"the grid's answer to {endpoint} is not understood: {explain(error, kind)}"
        ) from None


_DURATION = re.compile(r"(?:(-?\d+) days?, )?(?:(\d+):(\d+):)?(\d+(?:\.\d+)?)")


def parse_timeout(value: object) -> float | None:
    """Seconds from a rejection's `timeout`: a number, or a text such as "0:00:07.5" from a PyGrid node.

    Raises:
        GridResponseError: it is neither.
    """
    if value is None:
        return None
    match = _DURATION.fullmatch(str(value)) if isinstance(value, str | int | float) else None
    if match is None:
        raise GridResponseError("the timeout of the grid's rejection is not a time")
    days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return max(0.0, 86400 * days + 3600 * hours + 60 * minutes + seconds)
