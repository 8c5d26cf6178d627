"""What reads JSON: the calls of a grid, over HTTP and as WebSocket messages, and configurations.

The grid is a whole one with its store, in this process.
"""

import asyncio
import contextlib
import itertools
import json
import logging
import tempfile
from typing import Any
from urllib.parse import urlencode

from fedplan.federation import Setting
from fedplan.federation.strategies import strategy_of
from fedplan.grid import Settings, create_app
from fedplan.grid.web.callers import Caller
from fedplan.grid.web.calls import CALLS
from fedplan.grid.web.http import DOWNLOADS
from fedplan.grid.web.reading import READINGS
from fedplan.grid.web.websocket import answer
from fedplan.wire.config import parse_client_config, parse_server_config
from tests.fuzz.changes import changed_json
from tests.fuzz.target import FuzzFaultError, Target
from tests.grid.models import base64_of, diff, hosting

_RENEWED_AFTER = 2000
"""Inputs, after which a new grid takes the place of the old one: it holds whatever models it was sent."""

_JOINED_AFTER = 50
"""Inputs, after which a worker joins anew: places are given back, and models stopped or deleted."""

_WORKER, _KEY = b"<worker>", b"<key>"
"""Stand in an input for the id and the key of a worker that has a place."""

_HTTP = "http"


class GridUnderTest:
    """A grid in this process, with a model and a worker; a new one now and then."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._stack = contextlib.AsyncExitStack()
        self._tried = itertools.count()
        self._faults = _Faults()
        self._app: Any = None
        self._worker, self._key = b"w", b"k"

    def ask(self, data: bytes) -> None:
        """Sends one input: `{"over": "http", "type": …, "data": …}`, or anything as a WebSocket message.

        Raises:
            FuzzFaultError: the answer is a 5xx that does not say when to ask again.
        """
        self._loop.run_until_complete(self._ask(data))

    def close(self) -> None:
        """Ends the grid."""
        self._loop.run_until_complete(self._stack.aclose())
        self._loop.close()
        self._faults.close()

    async def _ask(self, data: bytes) -> None:
        tried = next(self._tried)
        if tried % _RENEWED_AFTER == 0:
            await self._renew()
        elif tried % _JOINED_AFTER == 0:
            await self._join()
        data = data.replace(_WORKER, self._worker).replace(_KEY, self._key)
        try:
            frame = json.loads(data)
        except (ValueError, RecursionError):
            frame = None
        if isinstance(frame, dict) and frame.get("over") == _HTTP:
            status = await self._over_http(frame)
        else:
            told = json.loads(await answer(self._app.state.grid, data, Caller()))
            status = told.get("status", 200)
        self._faults.check()
        if status >= 500 and status != 503:
            raise FuzzFaultError(f"the answer is {status}")

    async def _over_http(self, frame: dict[str, Any]) -> int:
        type, content = str(frame.get("type")), frame.get("data")
        is_call = type in CALLS
        query = "" if is_call or not isinstance(content, dict) else _query(content)
        body = json.dumps(content).encode() if is_call else b""
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": "POST" if is_call else "GET",
            "path": f"/{type}",
            "raw_path": b"/",
            "query_string": query.encode(errors="replace"),
            "root_path": "",
            "scheme": "http",
            "headers": [(b"host", b"grid")],
            "client": None,
            "server": ("grid", 80),
        }
        found: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: dict[str, Any]) -> None:
            found.append(message)

        await self._app(scope, receive, send)
        start = found[0]
        if start["status"] == 503 and b"retry-after" not in dict(start["headers"]):
            raise FuzzFaultError("a 503 does not say when to ask again")
        return int(start["status"])

    async def _renew(self) -> None:
        await self._stack.aclose()
        folder = self._stack.enter_context(tempfile.TemporaryDirectory())
        self._app = create_app(Settings(data_dir=folder, poll_seconds=0.2, retry_seconds=1.0))
        await self._stack.enter_async_context(self._app.router.lifespan_context(self._app))
        await self._join()

    async def _join(self) -> None:
        """Hosts the model, if it is gone, and has a worker join it."""
        for type, content in (
            ("host-training", hosting("m", server={"max_diffs": 3})),
            ("resume", {"name": "m", "version": "1.0"}),
        ):
            await self._send(type, content)
        known = await self._send("authenticate", {"model_name": "m", "model_version": "1.0"})
        worker = known.get("worker_id", "w")
        place = await self._send("cycle-request", {"worker_id": worker, "model": "m", "version": "1.0"})
        self._worker, self._key = worker.encode(), place.get("request_key", "k").encode()

    async def _send(self, type: str, content: dict[str, Any]) -> dict[str, Any]:
        message = json.dumps({"type": f"model-centric/{type}", "data": content})
        told: dict[str, Any] = json.loads(await answer(self._app.state.grid, message, Caller()))["data"]
        return told


class _Faults(logging.Handler):
    """Collects the errors with a traceback that the grid logs: it tells its peers nothing of them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.found: list[logging.LogRecord] = []
        logging.getLogger("fedplan").addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Keeps an error."""
        self.found.append(record)

    def close(self) -> None:
        """Collects no more."""
        logging.getLogger("fedplan").removeHandler(self)
        super().close()

    def check(self) -> None:
        """Raises the first error that was logged since the last time."""
        if self.found:
            record, *_ = self.found
            self.found = []
            error = record.exc_info[1] if record.exc_info else None
            raise FuzzFaultError(record.getMessage()) from error


def _query(content: dict[str, Any]) -> str:
    return urlencode({str(name): str(value) for name, value in content.items()}, errors="replace")


def read_configurations(data: bytes) -> None:
    """A pair of client_config and server_config, up to the strategy that they make."""
    try:
        pair = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(pair, dict):
        return
    parse_client_config(pair.get("client"))
    server = parse_server_config(pair.get("server"))
    layout = (((3, 2), "float32"), ((2,), "float32"))
    setting = Setting(server, pair["client"], layout, None, (), False, None)
    strategy_of(setting, None)


def peers(grid: GridUnderTest) -> list[Target]:
    """All targets of this module.

    Args:
        grid: is asked by one of them.
    """
    return [
        Target("configurations", read_configurations, _samples_of_configurations(), changed_json),
        Target("calls", grid.ask, _samples_of_calls(), changed_json, slow=4),
    ]


def _samples_of_calls() -> tuple[bytes, ...]:
    keys = {"worker_id": "<worker>", "request_key": "<key>"}
    model, named = {"name": "m", "version": "1.0"}, {"model_name": "m", "model_version": "1.0"}
    contents: dict[str, dict[str, Any]] = {
        "authenticate": named | {"auth_token": "a.b.c"},
        "cycle-request": {
            "worker_id": "<worker>",
            "model": "m",
            "version": "1.0",
            "ping": 8.0,
            "download": 46.3,
            "upload": 23.7,
            "receive_operations_as": "tfjs",
            "tell_cycle": True,
            "summary": True,
        },
        "report": keys | {"diff": base64_of(diff(1))},
        "secure-send": keys | {"stage": "keys", "message": base64_of(bytes(64))},
        "secure-receive": keys | {"stage": "shares"},
        "decline": keys | {"reason": "too much"},
        "host-training": hosting("m2", server={"max_diffs": 2, "num_cycles": 3, "cycle_length": 3600}),
        "evaluate": model,
        "pause": model,
        "resume": model,
        "stop": model,
        "extend": model | {"cycles": 2, "seconds": 60},
        "set": model | {"server_config": {"max_diffs": 4}, "client_config": {"lr": 0.2}},
        "delete": {"name": "m2", "version": "1.0"},
        "promote": model | {"checkpoint": "1"},
        "roll-back": model | {"checkpoint": 1},
        "get-model": keys | {"model_id": 1, "part": "changing"},
        "get-plan": keys | {"plan_id": 1, "receive_operations_as": "list"},
        "get-protocol": keys | {"protocol_id": 1},
        "retrieve-model": model | {"checkpoint": "latest"},
        "retrieve-plan": model | {"plan": "training_plan"},
        "status": {"name": "m"},
        "history": model,
        "checkpoints": model,
        "why": model | {"worker_id": "<worker>"},
        "events": model | {"limit": 10},
    }
    known = {type.rpartition("/")[2] for type in (*CALLS, *DOWNLOADS, *READINGS)} | {"events"}
    assert known == set(contents), known ^ set(contents)
    made = []
    for name, content in contents.items():
        message = {"type": f"model-centric/{name}", "data": content}
        made.append({"over": _HTTP, **message})
        if message["type"] in CALLS:
            made.append({**message, "request_id": "1", "tell_status": True})
    made.append({"type": "socket-ping", "data": {}})
    return tuple(json.dumps(message).encode() for message in made)


def _samples_of_configurations() -> tuple[bytes, ...]:
    client = {"name": "m", "version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1}
    servers: list[dict[str, Any]] = [
        {"max_diffs": 3, "min_diffs": 2, "max_workers": 5, "min_workers": 2, "num_cycles": 4},
        {"cycle_length": 60, "pool_selection": "random", "do_not_reuse_workers_until_cycle": 2},
        {"strategy": {"name": "fedadam", "lr": 0.1}, "max_diffs": 3},
        {"strategy": {"name": "krum", "f": 1}, "max_diffs": 9, "min_diffs": 9},
        {"strategy": {"name": "fedbuff", "k": 3}},
        {"stop": {"metric": "loss", "mode": "min", "value": 0.1}, "best": {"metric": "loss", "mode": "min"}},
        {"secure_aggregation": {"workers": 5, "clip": 1.0}, "num_cycles": 2},
        {
            "privacy": {"noise_multiplier": 1.0, "cohort": 9, "clip": 1.0},
            "authentication": {"secret": "s" * 32},
        },
        {"authentication": {"secret": "s" * 32, "aud": "a", "iss": "i", "leeway": 3}},
        {"report_formats": ["float16", "topk"], "metrics": ["update_norm"], "max_norm": 100.0},
        {"keep_checkpoints": {"last": 3}, "keep_diffs": True, "over_selection": 1.3},
    ]
    pairs = [{"client": client, "server": server} for server in servers]
    return tuple(json.dumps(pair).encode() for pair in pairs)
