"""Models that ask for a client certificate, over real sockets. The proxy is 127.0.0.1, and others are not."""

import json
import secrets
import time

import httpx
import jwt
import pytest
from websockets.asyncio.client import connect

from fedplan.grid import Settings
from tests.grid.conftest import serving
from tests.grid.models import hosting
from tests.grid.peers import Peer

HEADER = "X-Client-Subject"
ANN, BOB = {HEADER: "CN=ann,O=a clinic"}, {HEADER: "CN=bob,O=a clinic"}
OTHERS = "127.0.0.9"
SECRET = "a secret of at least thirty-two bytes"
ASKS = {"certificate": True}


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("grid"),
        trusted_proxies=["127.0.0.1"],
        certificate_header=HEADER,
        poll_seconds=0.05,
        retry_seconds=1.0,
    )
    with serving(settings) as address:
        yield address


def over(address, headers, source="127.0.0.1"):
    """Somebody who sends these headers with each request, from an address."""
    transport = httpx.AsyncHTTPTransport(local_address=source)
    return httpx.AsyncClient(base_url=f"http://{address}", headers=headers, transport=transport)


@pytest.fixture
async def hosted(address):
    """Hosts a model whose workers need these things, and returns its name."""
    async with over(address, {}) as http:

        async def host(authentication, **server):
            name = f"m-{secrets.token_hex(4)}"
            await Peer(http).host(name, server={"authentication": authentication, "max_diffs": 2} | server)
            return name

        yield host


async def refused(address, name, headers, source="127.0.0.1", **more):
    """What is said to a worker that may not authenticate."""
    async with over(address, headers, source) as http:
        reply = await Peer(http).post("authenticate", model_name=name, model_version="1.0", **more)
    assert reply.status_code == 401, reply.text
    return reply.json()["error"]


async def test_a_worker_with_a_certificate_trains(address, hosted):
    name = await hosted(ASKS)
    for headers in (ANN, BOB):
        async with over(address, headers) as http:
            worker = await Peer(http).join(name)
            assert (await worker.report(1)).status_code == 200
    async with over(address, {}) as http:
        await Peer(http).until_checkpoint(2, name)


async def test_one_without_is_told_what_is_missing(address, hosted):
    name = await hosted(ASKS)
    assert "needs a client certificate: the proxy has verified none" in await refused(address, name, {})


async def test_who_forges_the_header_is_not_believed(address, hosted):
    name = await hosted(ASKS)
    for forged in (ANN, ANN | {"X-Forwarded-For": "127.0.0.1"}, ANN | {"Forwarded": "for=127.0.0.1"}):
        assert "did not come through a proxy" in await refused(address, name, forged, OTHERS)


async def test_a_worker_id_opens_nothing_to_another_certificate_or_to_none(address, hosted):
    name = await hosted(ASKS)
    async with over(address, ANN) as http:
        worker_id = await Peer(http).authenticate(name)
        taken = await Peer(http).ask(worker_id, name)
        assert taken["status"] == "accepted"
    wrong = ((BOB, "127.0.0.1", "subject of another certificate"), ({}, "127.0.0.1", "verified none"))
    for headers, source, told in (*wrong, (ANN, OTHERS, "did not come through a proxy")):
        async with over(address, headers, source) as http:
            reply = await Peer(http).post("cycle-request", worker_id=worker_id, model=name, version="1.0")
        assert reply.status_code == 401
        assert told in reply.json()["error"]
        assert "request_key" not in reply.text


async def test_a_subject_has_one_place_and_one_report_in_a_cycle(address, hosted):
    name = await hosted(ASKS)
    async with over(address, ANN) as http:
        peer = Peer(http)
        workers = [await peer.join(name) for _ in range(3)]
        assert (await peer.status(name))["cycle"]["accepted"] == 1
        assert [(await worker.report(n)).status_code for n, worker in enumerate(workers)] == [200, 409, 409]


async def test_a_subject_takes_part_as_often_a_day_as_it_may(address, hosted):
    name = await hosted(ASKS, max_diffs=1, most_cycles_per_day=1)
    async with over(address, ANN) as http:
        peer = Peer(http)
        await (await peer.join(name)).report(1)
        await peer.until_checkpoint(2, name)
        assert (await peer.ask(await peer.authenticate(name), name))["status"] == "rejected"
    async with over(address, BOB) as http:
        assert (await Peer(http).join(name)).accepted["status"] == "accepted"


async def test_beside_a_token_both_are_needed_and_the_certificate_says_who_it_is(address, hosted):
    name = await hosted({"certificate": True, "secret": SECRET})
    tokens = [
        jwt.encode({"sub": subject, "exp": time.time() + 3600}, SECRET, "HS256") for subject in ("x", "y")
    ]
    assert "needs an auth_token" in await refused(address, name, ANN)
    assert "needs a client certificate" in await refused(address, name, {}, auth_token=tokens[0])
    for headers, places in ((ANN, 1), (ANN, 1), (BOB, 2)):
        async with over(address, headers) as http:
            peer = Peer(http)
            for token in tokens:
                worker_id = await peer.authenticate(name, auth_token=token)
                assert (await peer.ask(worker_id, name))["status"] == "accepted"
            assert (await peer.status(name))["cycle"]["accepted"] == places


async def say(socket, call, **data):
    await socket.send(json.dumps({"type": f"model-centric/{call}", "data": data, "tell_status": True}))
    return json.loads(await socket.recv())


async def test_the_handshake_of_a_websocket_tells_it_for_all_its_messages(address, hosted):
    name = await hosted(ASKS)
    model = {"model_name": name, "model_version": "1.0"}
    async with connect(f"ws://{address}", additional_headers=ANN) as socket:
        worker_id = (await say(socket, "authenticate", **model))["data"]["worker_id"]
        asked = {"worker_id": worker_id, "model": name, "version": "1.0"}
        assert (await say(socket, "cycle-request", **asked))["data"]["status"] == "accepted"
    sources = (({}, "127.0.0.1"), (ANN, OTHERS))
    for headers, source in sources:
        async with connect(f"ws://{address}", additional_headers=headers, local_addr=(source, 0)) as socket:
            for answer in (
                await say(socket, "authenticate", **model),
                await say(socket, "cycle-request", **asked),
            ):
                assert answer["status"] == 401
                assert "needs a client certificate" in answer["data"]["error"]


async def test_a_model_that_asks_for_none_does_not_look_at_it(address, hosted):
    name = await hosted({"secret": SECRET})
    token = jwt.encode({"sub": "ann", "exp": time.time() + 3600}, SECRET, "HS256")
    for headers in (ANN, BOB):
        async with over(address, headers) as http:
            worker_id = await Peer(http).authenticate(name, auth_token=token)
            assert (await Peer(http).ask(worker_id, name))["status"] == "accepted"
            assert (await Peer(http).status(name))["cycle"]["accepted"] == 1


async def test_privacy_takes_certificates_for_persons(address, hosted):
    privacy = {"clip": 1.0, "noise_multiplier": 1.0, "cohort": 10, "delta": 1e-6}
    name = await hosted(ASKS, privacy=privacy)
    async with over(address, ANN) as http:
        assert (await Peer(http).join(name)).accepted["status"] == "accepted"


async def test_a_grid_that_is_told_of_none_hosts_no_such_model_and_trains_none(open_grid):
    told = {"trusted_proxies": ["127.0.0.1"], "certificate_header": HEADER}
    server = {"authentication": ASKS}
    async with open_grid() as peer:
        reply = await peer.post("host-training", **hosting(server=server))
        assert reply.status_code == 400
        assert "FEDPLAN_CERTIFICATE_HEADER" in reply.json()["error"]
        assert (await peer.http.get("/model-centric/status")).json() == {"models": []}
    async with open_grid(**told) as peer:
        await peer.host(server=server)
    async with open_grid() as peer:
        reply = await peer.post("authenticate", model_name="m", model_version="1.0")
        assert reply.status_code == 401
        assert "FEDPLAN_CERTIFICATE_HEADER" in reply.json()["error"]


async def test_a_refusal_is_an_event(open_grid):
    async with open_grid(trusted_proxies=["127.0.0.1"], certificate_header=HEADER) as peer:
        await peer.host(server={"authentication": ASKS})
        assert (await peer.post("authenticate", model_name="m", model_version="1.0")).status_code == 401
        (event,) = [
            event
            for event in peer.app.state.grid.bundles.take(everything=True)
            if event.details.get("what") == "authentication"
        ]
        assert "needs a client certificate" in event.cause
