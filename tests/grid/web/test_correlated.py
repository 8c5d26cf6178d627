"""Each answer says the id of its request, over real sockets."""

import json
import secrets

import httpx
import pytest
from websockets.asyncio.client import connect

from fedplan.cli.log import note_request
from fedplan.grid.observing.correlation import Correlation, answering, current, id_for
from fedplan.grid.web.correlated import REQUEST_ID


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/healthz", 200),
        ("/", 200),
        ("/model-centric/status", 200),
        ("/model-centric/history", 400),
        ("/model-centric/history?name=none", 404),
        ("/nothing", 404),
        ("/model-centric/report", 405),
    ],
)
async def test_each_answer_has_an_id_of_its_own(http, path, status):
    answers = [await http.get(path) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [status, status]
    ids = [answer.headers[REQUEST_ID] for answer in answers]
    assert len(set(ids)) == 2
    assert all(len(id) == 16 for id in ids)


async def test_an_answer_to_a_name_that_the_grid_does_not_have_has_one_too(http):
    refused = await http.get("/healthz", headers={"host": "evil.example", REQUEST_ID: "mine"})
    assert (refused.status_code, refused.headers[REQUEST_ID]) == (421, "mine")


async def test_the_callers_own_id_is_taken(http):
    for id in ("a", "trace-1/2:3", "x" * 64):
        assert (await http.get("/healthz", headers={REQUEST_ID: id})).headers[REQUEST_ID] == id


@pytest.mark.parametrize("id", ["x" * 65, "two words", "", "tab\there", "ä"])
async def test_one_that_is_long_or_not_printable_is_replaced(http, id):
    answer = await http.get("/healthz", headers={REQUEST_ID: id.encode()})
    assert answer.headers[REQUEST_ID] != id
    assert len(answer.headers[REQUEST_ID]) == 16


async def test_a_handshake_has_one(server):
    async with connect(f"ws://{server}", additional_headers={REQUEST_ID: "socket-1"}) as ws:
        assert ws.response.headers[REQUEST_ID] == "socket-1"


async def test_a_download_has_one(peer):
    await peer.host()
    worker = await peer.join()
    got = await worker.get("get-model", model_id=worker.accepted["model_id"])
    assert (got.status_code, len(got.headers[REQUEST_ID])) == (200, 16)


def test_what_the_grid_does_by_itself_belongs_to_no_request():
    assert current() is None
    with answering(Correlation("outer")):
        with answering(Correlation("inner")):
            assert current().id == "inner"
        assert current().id == "outer"
    assert current() is None


@pytest.mark.parametrize("asked", [None, 7, ["a"], {"a": 1}, True, "a\n"])
def test_only_a_text_is_an_id(asked):
    assert id_for(asked) != id_for(asked)


async def test_the_log_names_the_request_over_http_and_over_a_socket(server, caplog):
    caplog.set_level("INFO", "fedplan")
    caplog.handler.addFilter(note_request)
    try:
        keys = {"worker_id": "w", "request_key": secrets.token_hex(4), "diff": ""}
        async with httpx.AsyncClient(base_url=f"http://{server}") as client:
            await client.post("/model-centric/report", json=keys, headers={REQUEST_ID: "over-http"})
        async with connect(f"ws://{server}") as ws:
            await ws.send(
                json.dumps({"type": "model-centric/report", "data": keys, "request_id": "over-socket"})
            )
            assert json.loads(await ws.recv())["request_id"] == "over-socket"
            await ws.send(json.dumps({"type": "model-centric/report", "data": keys}))
            await ws.recv()
    finally:
        caplog.handler.removeFilter(note_request)
    ids = [record.request_id for record in caplog.records if "a report was refused" in record.message]
    assert ids[:2] == ["over-http", "over-socket"]
    assert len(ids[2]) == 16
