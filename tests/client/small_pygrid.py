"""A PyGrid node small enough to read, on a real socket. It answers as in the recorded conversations
(fixtures/foreign/pygrid), keeps what is hosted over its WebSocket, and takes the mean of each cycle's diffs.

What it does unlike a grid of fedplan: it hosts over the WebSocket alone, wraps HTTP replies of cycle requests
and reports, knows no body of bytes, names the rest of the cycle and not when to ask again, cannot send a
Protocol, and answers what is not there with a page.
"""

import base64
import binascii
import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from fedplan.client import SyftModel
from fedplan.plan import split_variants
from fedplan.wire import schema

LEFT = "0:41:19.694800"
TRACEBACK = 'Traceback (most recent call last):\n  File "/srv/pygrid/fl_events.py", line 261, in report\n'


@dataclasses.dataclass
class Process:
    """What is hosted, and its cycle."""

    plans: Mapping[str, bytes]
    protocols: Mapping[str, bytes]
    client_config: dict[str, Any]
    server_config: dict[str, Any]
    checkpoints: list[bytes]
    workers: dict[str, str] = dataclasses.field(default_factory=dict)
    """Request keys of the present cycle's workers."""
    diffs: list[SyftModel] = dataclasses.field(default_factory=list)

    @property
    def finished(self) -> bool:
        return len(self.checkpoints) > self.server_config["num_cycles"]

    def report(self, diff: bytes) -> None:
        self.diffs.append(SyftModel.parse(diff))
        if len(self.diffs) < self.server_config["max_diffs"]:
            return
        model = SyftModel.parse(self.checkpoints[-1])
        means = [torch.stack(parts).mean(0) for parts in zip(*(d.params for d in self.diffs), strict=True)]
        params = [param - mean for param, mean in zip(model.params, means, strict=True)]
        self.checkpoints.append(SyftModel(params).serialize())
        self.workers, self.diffs = {}, []


class SmallPyGrid:
    def __init__(self) -> None:
        self.processes: dict[tuple[str, str], Process] = {}
        self.requests: list[str] = []
        """Names of calls, a WebSocket's with `ws ` before it."""
        self.hosted: list[dict[str, Any]] = []
        self.workers = 0
        self.bare_rejections = 0
        """So many cycle requests are answered as if the model were finished, as between two cycles."""

    # the calls, as functions of their data

    def host(self, data: dict[str, Any]) -> dict[str, Any]:
        self.hosted.append(data)
        try:
            plans = {name: binascii.unhexlify(plan.encode()) for name, plan in data["plans"].items()}
            protocols = {name: binascii.unhexlify(p.encode()) for name, p in data["protocols"].items()}
            assert binascii.unhexlify(data["averaging_plan"].encode()) == b""  # None has no encode()
            if any("tfjs" not in schema.Plan.decode(plan).roles for plan in plans.values()):
                return {"error": "Failed to translate a PlanTraceback (most recent call last):\n …"}
            key = data["client_config"]["name"], data["client_config"]["version"]
            if key in self.processes:
                return {"error": "FL Process already exists.Traceback (most recent call last):\n …"}
            model = binascii.unhexlify(data["model"].encode())
        except (AttributeError, KeyError) as error:
            return {"error": f"{error}{TRACEBACK}"}
        configs = data["client_config"], data["server_config"]
        self.processes[key] = Process(plans, protocols, *configs, [model])
        return {"status": "success"}

    def authenticate(self, data: dict[str, Any]) -> dict[str, Any]:
        if (data["model_name"], data["model_version"]) not in self.processes:
            return {"error": "Not found any process related with this cycle and worker ID."}
        self.workers += 1
        return {"status": "success", "worker_id": f"worker-{self.workers}", "requires_speed_test": False}

    def cycle_request(self, data: dict[str, Any]) -> dict[str, Any]:
        process = self.processes[data["model"], data["version"]]
        if process.finished or self.bare_rejections:
            self.bare_rejections = max(0, self.bare_rejections - 1)
            return {"status": "rejected"}
        if data["worker_id"] in process.workers:
            return {"status": "rejected", "timeout": LEFT}
        key = f"key-{len(process.checkpoints)}-{data['worker_id']}"
        process.workers[data["worker_id"]] = key
        return {
            "status": "accepted",
            "request_key": key,
            "version": data["version"],
            "model": data["model"],
            "plans": {name: number for number, name in enumerate(process.plans)},
            "protocols": {name: number for number, name in enumerate(process.protocols)},
            "client_config": process.client_config,
            "model_id": 1,
        }

    def report(self, data: dict[str, Any]) -> dict[str, Any]:
        for process in self.processes.values():
            if process.workers.get(data["worker_id"]) == data["request_key"]:
                process.report(base64.b64decode(data["diff"]))
                return {"status": "success"}
        return {"error": f"{TRACEBACK}    raise ProcessLookupError\nProcessLookupError\n"}

    # the ways in

    async def post(self, request: Request) -> Response:
        call = request.path_params["call"]
        self.requests.append(call)
        work = {
            "authenticate": self.authenticate,
            "cycle-request": self.cycle_request,
            "report": self.report,
        }.get(call)
        if work is None:
            return missing()
        try:
            data = json.loads(await request.body())
        except ValueError as error:
            return JSONResponse({"error": str(error)}, 500)
        answer = work(data)
        if call == "authenticate":
            return JSONResponse(answer, 401 if "error" in answer else 200)
        return JSONResponse({"type": f"model-centric/{call}", "data": answer})

    async def get(self, request: Request) -> Response:
        call, query = request.path_params["call"], request.query_params
        self.requests.append(call)
        if call == "retrieve-model":
            process = self.processes.get((query["name"], query["version"]))
            if process is None:
                return JSONResponse({"error": "Not found any process related with this …"}, 500)
            number = len(process.checkpoints) if query["checkpoint"] == "latest" else int(query["checkpoint"])
            if number > len(process.checkpoints):
                return JSONResponse({"error": "Model ID not found!"}, 404)
            return Response(process.checkpoints[number - 1])
        if call == "get-protocol":
            return JSONResponse({"error": "'list' object has no attribute 'fl_process_id'"}, 500)
        if call not in ("get-model", "get-plan"):
            return missing()
        for process in self.processes.values():
            if process.workers.get(query["worker_id"]) == query["request_key"]:
                if call == "get-model":
                    return Response(process.checkpoints[-1])
                plan = list(process.plans.values())[int(query["plan_id"])]
                return Response(split_variants(plan)[query.get("receive_operations_as", "list")])
        return JSONResponse({"error": "Invalid request key!"}, 401)

    async def websocket(self, socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                message = json.loads(await socket.receive_text())
                await socket.send_text(json.dumps(self.said(message)))

    def said(self, message: dict[str, Any]) -> dict[str, Any]:
        self.requests.append(f"ws {message['type'].removeprefix('model-centric/')}")
        if message["type"] == "socket-ping":
            return {"alive": "True"}
        work = {
            "model-centric/host-training": self.host,
            "model-centric/authenticate": self.authenticate,
            "model-centric/cycle-request": self.cycle_request,
            "model-centric/report": self.report,
        }.get(message["type"])
        if work is None:
            return {"error": f"'{message['type']}'", "request_id": message["request_id"]}
        answer = work(message["data"])
        return {"type": message["type"], "data": answer, "request_id": message["request_id"]}

    @property
    def app(self) -> Starlette:
        path = "/model-centric/{call}"
        return Starlette(
            routes=[
                Route(path, self.get, methods=["GET"]),
                Route(path, self.post, methods=["POST"]),
                WebSocketRoute("/", self.websocket),
            ]
        )


def missing() -> Response:
    """What Flask answers where nothing is."""
    page = "<!DOCTYPE HTML PUBLIC '-//W3C//DTD HTML 3.2 Final//EN'>\n<title>404 Not Found</title>\n"
    return HTMLResponse(page, 404)
