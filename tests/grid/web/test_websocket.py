"""The WebSocket transport over real sockets."""

import asyncio
import json
import secrets
import time

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.models import base64_of, diff, hosting
from tests.grid.peers import Peer


@pytest.fixture
def name():
    return f"m-{secrets.token_hex(4)}"


@pytest.fixture
async def socket(server):
    async with connect(f"ws://{server}", max_size=None) as socket:
        yield socket


async def say(socket, type, data=None, **more):
    """Sends a message and returns the reply."""
    message = {"type": type} | ({} if data is None else {"data": data}) | more
    await socket.send(json.dumps(message))
    return json.loads(await socket.recv())


async def tell(socket, call, data, **more):
    """Like `say`, for a message of the protocol that is answered well; returns the reply's data."""
    reply = await say(socket, f"model-centric/{call}", data, **more)
    assert reply["type"] == f"model-centric/{call}"
    assert "error" not in reply["data"], reply
    return reply["data"]


async def join(socket, name):
    worker = await tell(socket, "authenticate", {"model_name": name, "model_version": "1.0"})
    ask = {"worker_id": worker["worker_id"], "model": name, "version": "1.0"}
    return worker["worker_id"], await tell(socket, "cycle-request", ask)


def report_of(worker_id, accepted, value, **shapes):
    return {
        "worker_id": worker_id,
        "request_key": accepted["request_key"],
        "diff": base64_of(diff(value, **shapes)),
    }


async def test_a_whole_cycle(socket, http, name):
    assert await tell(socket, "host-training", hosting(name)) == {"status": "success"}
    worker_id, accepted = await join(socket, name)
    assert accepted["status"] == "accepted"
    assert await tell(socket, "report", report_of(worker_id, accepted, 1)) == {"status": "success"}
    await Peer(http).until_checkpoint(2, name)


async def test_replies_are_those_of_http(socket, http, name):
    peer = Peer(http)
    await peer.host(name, server={"max_workers": 1, "num_cycles": 1})
    over_http = await http.post("/model-centric/authenticate", json={"model_name": name})
    over_socket = await tell(socket, "authenticate", {"model_name": name})
    assert over_socket.keys() == over_http.json().keys()
    worker = await peer.join(name)
    _, accepted = await join(socket, name)
    assert accepted == {"status": "rejected", "timeout": 1}
    await worker.report(1)
    await peer.until_checkpoint(2, name)
    assert (await join(socket, name))[1] == {"status": "rejected"}


@pytest.mark.parametrize("request_id", ["abc", 7, 1.5, True, None, "", {"a": [1]}, [1]])
async def test_a_request_id_comes_back_as_it_was(socket, request_id):
    reply = await say(socket, "model-centric/authenticate", {"model_name": "x"}, request_id=request_id)
    assert reply["request_id"] == request_id
    assert type(reply["request_id"]) is type(request_id)


async def test_no_request_id_comes_back_where_none_came(socket):
    reply = await say(socket, "model-centric/authenticate", {"model_name": "x"})
    assert set(reply) == {"type", "data"}


@pytest.mark.parametrize("more", [{}, {"data": None}, {"data": {}}, {"request_id": "1"}])
async def test_a_ping_is_answered(socket, more):
    reply = await say(socket, "socket-ping", **more)
    assert reply["type"] == "socket-ping"
    assert reply["data"] == {}


async def test_an_error_is_told_under_data_and_ends_nothing(socket):
    for type, data, message in (
        ("model-centric/nothing", {}, "there is no message type 'model-centric/nothing'"),
        ("model-centric/get-model", {}, "there is no message type"),
        ("model-centric/authenticate", {"model_name": "no such model"}, "hosts no model"),
        ("model-centric/authenticate", {}, "'model_name': Field required"),
        ("model-centric/authenticate", [], "'data' is not an object"),
        ("model-centric/report", None, "'data' is not an object"),
        ("model-centric/host-training", {"model": "x"}, "'plans': Field required"),
        ("model-centric/cycle-request", {"worker_id": "w", "model": "m"}, "authenticate first"),
    ):
        reply = await say(socket, type, data, request_id=1)
        assert reply["type"] == type
        assert reply["request_id"] == 1
        assert set(reply["data"]) == {"error"}
        assert message in reply["data"]["error"]


@pytest.mark.parametrize("asks", [True, False, None, 1, "true", {}])
async def test_a_refusal_tells_its_status_to_who_asks(socket, asks):
    for type, data, status in (
        ("model-centric/authenticate", {"model_name": "no such model"}, 404),
        ("model-centric/authenticate", {}, 400),
        ("model-centric/nothing", {}, 400),
    ):
        reply = await say(socket, type, data, tell_status=asks)
        assert reply.get("status") == (status if asks is True else None)
        assert set(reply["data"]) == {"error"}
    assert set(await say(socket, "socket-ping", tell_status=asks)) == {"type", "data"}


@pytest.mark.parametrize("raw", ["", "{", "[]", "null", '"x"', "{}", '{"type": 5}', b"\xff\xfe"])
async def test_what_is_no_message_is_answered_with_an_error(socket, raw):
    await socket.send(raw)
    reply = json.loads(await socket.recv())
    assert set(reply["data"]) == {"error"}
    assert (await say(socket, "socket-ping"))["data"] == {}


async def test_a_message_may_come_as_bytes(socket):
    await socket.send(json.dumps({"type": "socket-ping"}).encode())
    assert json.loads(await socket.recv())["type"] == "socket-ping"


async def test_a_large_report_may_come_in_fragments(socket, http, name):
    peer, shapes = Peer(http), ((1000, 300), (300,))
    import torch

    from fedplan.plan import trace

    plan = trace(lambda x: x * 2, torch.zeros(3)).serialize()
    await peer.host(name, model=diff(0.5, shapes), plans={"p": plan.hex()}, server={"max_diffs": 1})
    worker_id, accepted = await join(socket, name)
    data = report_of(worker_id, accepted, 0.25, shapes=shapes)
    text = json.dumps({"type": "model-centric/report", "data": data})
    assert len(text) > 1_600_000
    await socket.send([text[at : at + 131_072] for at in range(0, len(text), 131_072)])
    assert json.loads(await socket.recv())["data"] == {"status": "success"}
    await peer.until_checkpoint(2, name)


async def test_nothing_of_a_worker_is_tied_to_its_socket(server, http, name):
    await Peer(http).host(name, server={"max_diffs": 2})
    async with connect(f"ws://{server}") as socket:
        first = await join(socket, name)
        second = await join(socket, name)
    async with connect(f"ws://{server}") as socket:
        assert await tell(socket, "report", report_of(*first, 1)) == {"status": "success"}
    over_http = await http.post("/model-centric/report", json=report_of(*second, 2))
    assert over_http.json() == {"status": "success"}
    await Peer(http).until_checkpoint(2, name)


@pytest.mark.parametrize("path", ["", "/", "//"])
@pytest.mark.parametrize("compression", [None, "deflate"])
async def test_a_socket_opens_at_the_base_url(server, path, compression):
    async with connect(f"ws://{server}{path}", compression=compression) as socket:
        assert (await say(socket, "socket-ping"))["data"] == {}


async def test_pages_that_may_not_use_the_grid_get_no_socket(tmp_path):
    with serving(Settings(data_dir=tmp_path, cors_origins=["https://good.example"])) as server:
        for origin in ("https://good.example", f"http://{server}", None):
            async with connect(f"ws://{server}", origin=origin) as socket:
                assert (await say(socket, "socket-ping"))["data"] == {}
        for origin in ("https://bad.example", "null", "https://good.example.bad.example", "http://[", ""):
            with pytest.raises(InvalidStatus) as refused:
                await connect(f"ws://{server}", origin=origin)
            assert refused.value.response.status_code == 403


async def test_no_socket_opens_elsewhere(server):
    with pytest.raises(InvalidStatus):
        await connect(f"ws://{server}/elsewhere")


async def test_a_worker_may_go_while_it_is_answered(server, name):
    for _ in range(5):
        async with connect(f"ws://{server}") as socket:
            await socket.send(json.dumps({"type": "model-centric/host-training", "data": hosting(name)}))
    async with connect(f"ws://{server}") as socket:
        assert (await say(socket, "socket-ping"))["data"] == {}


async def test_a_worker_that_trains_for_minutes_without_a_pause_keeps_its_socket(tmp_path):
    """syft.js in Node answers no ping meanwhile, and does not report again when its socket is gone."""
    with serving(Settings(data_dir=tmp_path), haste=100) as address:
        async with connect(f"ws://{address}") as socket:
            time.sleep(1.5)  # 150 seconds of training in the loop's own thread
            assert (await say(socket, "socket-ping"))["data"] == {}


async def test_many_workers_talk_at_once(server, http, name):
    await Peer(http).host(name, server={"max_diffs": 20})

    async def work(value):
        async with connect(f"ws://{server}") as socket:
            await tell(socket, "report", report_of(*await join(socket, name), value))

    await asyncio.gather(*(work(value) for value in range(20)))
    await Peer(http).until_checkpoint(2, name)


async def test_the_owners_token_comes_with_the_connection(open_grid, tmp_path):
    from fedplan.grid.web.callers import Caller
    from fedplan.grid.web.websocket import answer

    async with open_grid(owner_token="a token") as peer:
        grid = peer.app.state.grid
        message = json.dumps({"type": "model-centric/host-training", "data": hosting()})
        refused = json.loads(await answer(grid, message, Caller()))
        assert "owner token" in refused["data"]["error"]
        assert json.loads(await answer(grid, message, Caller("a token")))["data"] == {"status": "success"}
