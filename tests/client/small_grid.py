"""A grid small enough to read, on a real socket: it speaks the protocol, keeps one model, averages nothing.

Tests tell it what to answer next; it notes what it was asked.
"""

import base64
import contextlib
import inspect
import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fedplan.client import SyftModel
from fedplan.plan import Plan

PREFIX = "model-centric/"
DOWNLOADS = ("get-model", "get-plan", "get-protocol", "retrieve-model")


class SmallGrid:
    def __init__(
        self, model: SyftModel | None = None, plans: dict[str, Plan] | None = None, **client_config: Any
    ) -> None:
        self.model = model or SyftModel([])
        self.plans = plans or {}
        self.client_config = {"name": "m", "version": "1.0", **client_config}
        self.protocols: dict[str, bytes] = {}
        self.requires_speed_test = False
        self.takes_binary = False
        self.echoes_request_id = True
        self.next: dict[str, deque[Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.sockets = 0
        self.socket_pings = 0
        self.headers: list[dict[str, str]] = []
        self.uploaded = 0
        self.url = ""

    def answer(self, call: str, *answers: Any) -> None:
        """What to answer to the next requests of this name: a dict, a Response, or a function of the data.

        A function that waits must be a coroutine function, for all tests share the server's loop.
        """
        self.next.setdefault(call, deque()).extend(answers)

    def asked(self, call: str) -> list[dict[str, Any]]:
        return [data for name, data in self.requests if name == call]

    @property
    def diffs(self) -> list[SyftModel]:
        return [SyftModel.parse(base64.b64decode(data["diff"])) for data in self.asked("report")]

    async def reply(self, call: str, data: dict[str, Any]) -> Any:
        self.requests.append((call, data))
        prepared = self.next.get(call)
        if not prepared:
            return self.usual(call, data)
        answer = prepared.popleft()
        if callable(answer) and not isinstance(answer, Response):
            answer = answer(data)
        return await answer if inspect.isawaitable(answer) else answer

    def usual(self, call: str, data: dict[str, Any]) -> Any:
        match call:
            case "authenticate":
                return {
                    "status": "success",
                    "worker_id": "w-1",
                    "requires_speed_test": self.requires_speed_test,
                }
            case "cycle-request":
                return {
                    "status": "accepted",
                    "model": data["model"],
                    "version": data["version"],
                    "request_key": "secret-key",
                    "plans": {name: number for number, name in enumerate(self.plans, 10)},
                    "protocols": {name: number for number, name in enumerate(self.protocols, 20)},
                    "client_config": self.client_config,
                    "model_id": 1,
                }
            case "report" | "host-training":
                return {"status": "success"}
            case "get-model" | "retrieve-model":
                return self.model.serialize()
            case "get-plan":
                return list(self.plans.values())[int(data["plan_id"]) - 10].serialize()
            case "get-protocol":
                return list(self.protocols.values())[int(data["protocol_id"]) - 20]
        return {"error": f"there is no {call}"}

    async def http(self, request: Request) -> Response:
        call = request.path_params["call"]
        self.headers.append(dict(request.headers))
        if call == "speed-test":
            return await self.speed_test(request)
        binary = request.headers.get("content-type") == "application/octet-stream"
        if binary and not self.takes_binary:
            return JSONResponse({"error": "the message is not JSON"}, 400)
        if request.method == "GET" or binary:
            data: dict[str, Any] = dict(request.query_params)
        else:
            data = await request.json()
        if binary:
            data["body"] = await request.body()
        answer = await self.reply(call, data)
        if isinstance(answer, Response):
            if binary:
                answer.headers["accept-post"] = "application/json, application/octet-stream"
            return answer
        return JSONResponse(answer) if isinstance(answer, dict) else Response(answer)

    async def speed_test(self, request: Request) -> Response:
        self.requests.append(("speed-test", {"method": request.method, **request.query_params}))
        if request.method == "POST":
            async for chunk in request.stream():
                self.uploaded += len(chunk)
            return JSONResponse({})
        return JSONResponse({}) if "is_ping" in request.query_params else Response(bytes(4 << 20))

    async def websocket(self, socket: WebSocket) -> None:
        await socket.accept()
        self.sockets += 1
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = json.loads(await socket.receive_text())
                call = message["type"].removeprefix(PREFIX)
                answer = await self.reply(call, message["data"])
                if answer == "close":
                    await socket.close()
                    return
                if answer is None:  # stay silent
                    continue
                reply = {"type": message["type"], "data": answer}
                if isinstance(answer, Response):
                    reply["data"] = {"error": answer.body.decode() or "refused"}
                    reply |= {"status": answer.status_code} if message.get("tell_status") else {}
                if self.echoes_request_id:
                    reply["request_id"] = message["request_id"]
                await socket.send_text(json.dumps(reply))

    @property
    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/model-centric/{call}", self.http, methods=["GET", "POST"]),
                WebSocketRoute("/", self.websocket),
            ]
        )

    @property
    def ws_url(self) -> str:
        return self.url.replace("http", "ws")


@contextlib.contextmanager
def serve(app: Callable[..., Any]) -> Iterator[str]:
    """Runs an ASGI app, its lifespan included, on a free port, in a thread."""
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_level="critical",
        ws="websockets-sansio",
        ws_max_size=64 << 20,
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the server did not start: its error is above"
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
