"""The OpenAPI document: it is made from the tables, names whatever is served, and says of it what is so."""

import json

import pytest
from fastapi.routing import APIRoute

from fedplan.grid import Settings, create_app
from fedplan.grid.web.calls import CALLS
from fedplan.grid.web.http import DOWNLOADS
from fedplan.grid.web.openapi import document
from fedplan.grid.web.reading import READINGS
from fedplan.grid.web.replies import STATUS
from tests.grid.models import base64_of, diff

DOCUMENT = document()


def operation(path, method="post"):
    return DOCUMENT["paths"][f"/model-centric/{path}"][method]


def resolved(part):
    while "$ref" in part:
        path = part["$ref"].removeprefix("#/").split("/")
        part = DOCUMENT
        for step in path:
            part = part[step]
    return part


def references(part):
    if isinstance(part, dict):
        yield from [part] if "$ref" in part else []
        for item in part.values():
            yield from references(item)
    elif isinstance(part, list):
        for item in part:
            yield from references(item)


async def test_it_is_published(peer):
    reply = await peer.http.get("/openapi.json")
    assert reply.status_code == 200
    assert reply.json() == json.loads(json.dumps(DOCUMENT))


def test_it_has_every_route_but_the_pages_of_the_dashboard(tmp_path):
    app = create_app(Settings(data_dir=tmp_path))
    served = {
        (route.path, method.lower())
        for route in routes_of(app)
        if isinstance(route, APIRoute) and route.include_in_schema
        for method in route.methods
    }
    described = {(path, method) for path, methods in DOCUMENT["paths"].items() for method in methods}
    assert described == served
    assert {f"/{type}" for type in (*CALLS, *DOWNLOADS, *READINGS)} <= {path for path, _ in described}


def routes_of(router):
    """All routes, also those of the routers in it, which FastAPI keeps as they are."""
    for route in router.routes:
        inner = getattr(route, "original_router", None)
        yield from [route] if inner is None else routes_of(inner)


def test_what_it_refers_to_is_there():
    found = list(references(DOCUMENT))
    assert found
    assert all(isinstance(resolved(part), dict) for part in found)


def test_no_two_operations_have_one_name():
    names = [one["operationId"] for methods in DOCUMENT["paths"].values() for one in methods.values()]
    assert len(set(names)) == len(names)


def test_links_lead_to_operations_and_to_what_these_take():
    by_name = {one["operationId"]: one for methods in DOCUMENT["paths"].values() for one in methods.values()}
    links = [
        link
        for one in by_name.values()
        for link in resolved(one["responses"]["200"]).get("links", {}).values()
    ]
    assert links
    for link in links:
        target = by_name[link["operationId"]]
        if "parameters" in link:
            known = {parameter["name"] for parameter in target["parameters"]}
            assert set(link["parameters"]) <= known
        else:
            schema = target["requestBody"]["content"]["application/json"]["schema"]
            assert set(link["requestBody"]) <= set(resolved(schema)["properties"])


def test_links_lead_from_hosting_to_downloads_and_reports():
    by_name = {one["operationId"]: one for methods in DOCUMENT["paths"].values() for one in methods.values()}
    reached, waiting = set(), ["host-training"]
    while waiting:
        links = by_name[waiting.pop()]["responses"]["200"].get("links", {})
        found = {link["operationId"] for link in links.values()} - reached
        reached |= found
        waiting += found
    assert {"authenticate", "cycle-request", "get-model", "get-plan", "report", "retrieve-model"} <= reached


def test_a_body_and_its_answer_are_described():
    report = operation("report")
    body = report["requestBody"]["content"]
    assert set(resolved(body["application/json"]["schema"])["properties"]) == {
        "worker_id",
        "request_key",
        "diff",
    }
    assert set(body) == {"application/json", "application/octet-stream"}
    assert {query["name"]: query["required"] for query in report["parameters"]} == {
        "worker_id": False,
        "request_key": False,
    }
    joined = operation("cycle-request")["responses"]["200"]["content"]["application/json"]["schema"]
    assert [resolved(kind)["title"] for kind in joined["anyOf"]] == ["CycleAccepted", "CycleRejected"]


def test_a_query_is_described():
    queries = operation("get-plan", "get")["parameters"]
    assert {query["name"]: query["required"] for query in queries} == {
        "worker_id": True,
        "request_key": True,
        "plan_id": True,
        "receive_operations_as": False,
    }


@pytest.mark.parametrize("status", sorted(set(STATUS.values())))
def test_every_refusal_is_described(status):
    refusal = resolved(operation("report")["responses"][str(status)])
    assert resolved(refusal["content"]["application/json"]["schema"])["required"] == ["error"]
    assert refusal["description"]
    assert ("headers" in refusal) == (status in (429, 503))


def test_calls_of_owners_say_that_they_need_a_token():
    assert operation("pause")["security"] == [{"token": ["host"]}, {}]
    assert "scope `host`" in operation("pause")["description"]
    assert "security" not in operation("report")


async def test_answers_have_the_keys_that_it_says(peer):
    await peer.host()
    worker = await peer.join()
    accepted = resolved(DOCUMENT["components"]["schemas"]["CycleAccepted"])
    assert set(accepted["required"]) <= set(worker.accepted) <= set(accepted["properties"])
    reply = await worker.report(diff=base64_of(diff(1)))
    assert set(reply.json()) <= set(DOCUMENT["components"]["schemas"]["Success"]["properties"])
    model = await peer.status()
    assert set(model) <= set(DOCUMENT["components"]["schemas"]["ModelStatus"]["properties"])
