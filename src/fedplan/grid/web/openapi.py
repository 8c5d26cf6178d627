"""The grid's OpenAPI document, made from the tables of calls, downloads and readings.

What a client needs to write down is read from the same types with which messages are checked, so the document
cannot say anything else. Refusals are the table of statuses in `replies`.
"""

import inspect
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pydantic import BaseModel, Field
from pydantic.json_schema import models_json_schema

from fedplan.grid.records import Scope
from fedplan.grid.web.calls import CALLS, Call
from fedplan.grid.web.http import DOWNLOADS, Download
from fedplan.grid.web.reading import READINGS, Reading
from fedplan.grid.web.replies import RETRY_SECONDS, STATUS
from fedplan.version import __version__
from fedplan.wire import messages
from fedplan.wire.messages import (
    AUTHENTICATE,
    BINARY,
    CYCLE_REQUEST,
    DECLINE,
    EVENTS,
    GET_MODEL,
    GET_PLAN,
    HOST_TRAINING,
    REPORT,
    RETRIEVE_MODEL,
    SECURE_RECEIVE,
    SECURE_SEND,
    SPEED_TEST,
    ErrorReply,
    EventsReply,
    EventsRequest,
)

OPENAPI = "3.1.0"

_DESCRIPTION = """\
Model-centric federated learning. Each POST is a WebSocket message at `/` too:
`{"type": "model-centric/report", "data": {…}, "request_id": "…"}` is answered with the same `type` and
`request_id`, and the answer in `data`.
An answer may leave out what has no value. Whoever sends a key that is not described here is not refused."""

_JSON, _TEXT, _STREAM = "application/json", "text/plain", "text/event-stream"

_STATES = {"type": "string", "description": "A `syft_proto` message: a State, a Plan or a Protocol."}

Object = dict[str, Any]


class _SpeedTest(messages.Request):
    """The query of a speed test."""

    worker_id: str
    random: str = Field(description="Any text that was not sent before, so that no proxy answers.")
    is_ping: str | None = Field(
        None, description="Whatever it is: nothing is sent, to measure the round trip."
    )


def document() -> Object:
    """The document, as JSON."""
    kinds = sorted(set(_models()), key=lambda kind: kind.__name__)
    inputs = [kind for kind in kinds if issubclass(kind, messages.Request)]
    outputs = [kind for kind in kinds if not issubclass(kind, messages.Request)]
    _, schemas = models_json_schema(
        [*((kind, "validation") for kind in inputs), *((kind, "serialization") for kind in outputs)],
        ref_template="#/components/schemas/{model}",
    )
    return {
        "openapi": OPENAPI,
        "info": {"title": "fedplan grid", "version": __version__, "description": _DESCRIPTION},
        "paths": _paths(),
        "components": {
            "schemas": schemas["$defs"],
            "responses": {str(status): _refusal(status) for status in sorted(set(STATUS.values()))},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token, on a grid that has some: `fedplan token create`.",
                }
            },
        },
    }


def _models() -> Iterator[type[BaseModel]]:
    """What has a schema of its own: bodies and answers. What a query holds is described where it stands."""
    for call in CALLS.values():
        yield call.request
        yield from _replies(call.run)
    for reading in READINGS.values():
        yield from _replies(reading.run)
    yield from (ErrorReply, EventsReply)


def _replies(run: Callable[..., Any]) -> tuple[type[BaseModel], ...]:
    """The kinds of answer that a use case returns."""
    returned = typing.get_type_hints(run)["return"]
    return typing.get_args(returned) or (returned,)


# -- paths -----------------------------------------------------------------------------------------------


def _paths() -> Object:
    paths: Object = {f"/{type}": {"post": _call(type, call)} for type, call in CALLS.items()}
    paths |= {f"/{type}": {"get": _download(type, download)} for type, download in DOWNLOADS.items()}
    paths |= {f"/{type}": {"get": _reading(type, reading)} for type, reading in READINGS.items()}
    paths[f"/{EVENTS}"] = {"get": _events()}
    paths[f"/{SPEED_TEST}"] = {
        "get": _operation("speed-download", "64 MiB to measure the download with.", _SpeedTest)
        | {"responses": _responses({BINARY: _STATES | {"description": "Noise."}, _JSON: {"type": "object"}})},
        "post": _operation("speed-upload", "Takes an upload in whatever form, and drops it.", _SpeedTest)
        | {"responses": _responses({_JSON: {"type": "object"}})},
    }
    return paths | {
        "/healthz": {"get": _told("healthz", "Whether the process answers.", _JSON)},
        "/readyz": {"get": _told("readyz", "Whether database, blobs and disk are fine; else 503.", _JSON)},
        "/metrics": {"get": _told("metrics", "Counters, in Prometheus's text format.", _TEXT)},
    }


def _call(type: str, call: Call) -> Object:
    content: Object = {_JSON: {"schema": _reference(call.request)}}
    operation = _operation(type, _said(call.run), call.bytes_request, call.scope)
    if call.bytes_request is not None:
        content[BINARY] = {"schema": {"type": "string", "description": "The message's own bytes."}}
        for parameter in operation["parameters"]:  # a JSON body holds them itself
            parameter["required"] = False
            parameter["description"] = f"Beside a body of {BINARY}."
    answer = _answer(call.run)
    answer["links"] = _LINKS.get(type, {})
    return operation | {
        "requestBody": {"required": True, "content": content},
        "responses": {"200": answer} | _refusals(),
    }


def _download(type: str, download: Download) -> Object:
    responses: Object = _responses({BINARY: _STATES})
    responses["304"] = {"description": "What `If-None-Match` names is still good."}
    scope = Scope.READ if download.reads else None
    return _operation(type, _said(download.run), download.query, scope) | {"responses": responses}


def _reading(type: str, reading: Reading) -> Object:
    operation = _operation(type, _said(reading.run), reading.query, Scope.OBSERVE)
    return operation | {"responses": {"200": _answer(reading.run)} | _refusals()}


def _events() -> Object:
    described = "What happened, page by page; for who accepts `text/event-stream`, as it happens."
    content = {_JSON: _reference(EventsReply), _STREAM: {"type": "string"}}
    return _operation(EVENTS, described, EventsRequest, Scope.OBSERVE) | {"responses": _responses(content)}


def _told(name: str, described: str, kind: str) -> Object:
    schema = {"type": "object" if kind == _JSON else "string"}
    return _operation(name, described, None) | {"responses": _responses({kind: schema})}


def _operation(
    type: str, described: str, query: type[messages.Request] | None, scope: Scope | None = None
) -> Object:
    operation: Object = {"operationId": type.rpartition("/")[2], "description": described}
    if query is not None:
        operation["parameters"] = list(_parameters(query))
    if scope is not None:
        operation["description"] += f" Needs a token with the scope `{scope}`, on a grid that has tokens."
        operation["security"] = [{"token": [str(scope)]}, {}]
    return operation


def _parameters(query: type[messages.Request]) -> Iterator[Object]:
    schema = query.model_json_schema()
    for name, described in schema["properties"].items():
        kinds = [kind for kind in described.get("anyOf", ()) if kind.get("type") != "null"]
        one = kinds[0] | {"title": described["title"]} if kinds else described  # a query holds no null
        yield {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": one}


def _said(run: Callable[..., Any]) -> str:
    """The first paragraph of a docstring."""
    return " ".join((inspect.getdoc(run) or "").partition("\n\n")[0].split())


# -- answers ---------------------------------------------------------------------------------------------


def _answer(run: Callable[..., Any]) -> Object:
    kinds = [_reference(kind) for kind in _replies(run)]
    schema = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    return {"description": "The answer.", "content": {_JSON: {"schema": schema}}}


def _responses(content: Mapping[str, Object]) -> Object:
    answers = {kind: {"schema": schema} for kind, schema in content.items()}
    return {"200": {"description": "The answer.", "content": answers}} | _refusals()


def _refusals() -> Object:
    return {
        str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(set(STATUS.values()))
    }


def _refusal(status: int) -> Object:
    causes = [kind for kind, code in STATUS.items() if code == status]
    said = " Or: ".join(" ".join((inspect.getdoc(kind) or "").split()) for kind in causes)
    refusal: Object = {"description": said, "content": {_JSON: {"schema": _reference(ErrorReply)}}}
    if status in RETRY_SECONDS:
        seconds = {"type": "string", "pattern": "^[0-9]+$"}
        refusal["headers"] = {"Retry-After": {"description": "In so many seconds.", "schema": seconds}}
    return refusal


def _reference(kind: type[BaseModel]) -> Object:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


# -- what an answer is good for --------------------------------------------------------------------------

_WORKER = {"worker_id": "$request.body#/worker_id", "request_key": "$response.body#/request_key"}


def _link(type: str, given: Mapping[str, str], *, in_query: bool = False) -> Object:
    operation = type.rpartition("/")[2]
    return {"operationId": operation, "parameters" if in_query else "requestBody": dict(given)}


_HOSTED = {"name": "$request.body#/client_config/name", "version": "$request.body#/client_config/version"}

_LINKS: Mapping[str, Object] = {
    HOST_TRAINING: {
        "authenticate": _link(AUTHENTICATE, {f"model_{key}": value for key, value in _HOSTED.items()}),
        "status": _link(messages.STATUS, {"name": _HOSTED["name"]}, in_query=True),
        "retrieve": _link(RETRIEVE_MODEL, _HOSTED, in_query=True),
    },
    AUTHENTICATE: {
        "join": _link(
            CYCLE_REQUEST,
            {
                "worker_id": "$response.body#/worker_id",
                "model": "$request.body#/model_name",
            },
        )
    },
    CYCLE_REQUEST: {
        "report": _link(REPORT, _WORKER),
        "decline": _link(DECLINE, _WORKER),
        "send": _link(SECURE_SEND, _WORKER),
        "receive": _link(SECURE_RECEIVE, _WORKER),
        "model": _link(GET_MODEL, _WORKER | {"model_id": "$response.body#/model_id"}, in_query=True),
        "plan": _link(GET_PLAN, _WORKER | {"plan_id": "$response.body#/plans/training_plan"}, in_query=True),
    },
}
"""Which values of an answer other calls take."""
