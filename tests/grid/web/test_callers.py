"""Which client sends a message, by what it calls itself."""

import asyncio

import pytest

from fedplan.client.transport.api import GridApi
from fedplan.client.transport.exchange import Retry
from fedplan.client.transport.url import GridUrl
from fedplan.errors import GridConnectionError
from fedplan.federation import strategy_of
from fedplan.grid.clients import KINDS, obstacles, plans_for
from fedplan.grid.records import HostedPlan, Process, Variant
from fedplan.grid.web.callers import Caller
from fedplan.wire.config import parse_server_config

CHROMIUM = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0"
WEB_VIEW = "Mozilla/5.0 (iPhone; CPU iPhone OS 14_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "name"),
    [
        ("fedplan/0.1.0", "fedplan"),
        ("okhttp/4.3.1", "KotlinSyft"),
        ("SwiftSyft_Example/1 CFNetwork/1220.1 Darwin/20.3.0", "SwiftSyft"),
        ("My%20App/1.2 CFNetwork/978.0.7 Darwin/18.7.0", "SwiftSyft"),
        (CHROMIUM, "syft.js"),
        (WEB_VIEW, "syft.js"),
        ("node", "syft.js"),
        ("node-fetch/1.0 (+https://github.com/bitinn/node-fetch)", "syft.js"),
        ("python-requests/2.34.2", None),
        ("", None),
        ("nodemon", None),
        ("curl/8.5.0", None),
        ("Python/3.11 websockets/17.4", None),
        ("a CFNetwork", None),
        ("x" * 60_000, None),
    ],
)
def test_a_client_is_known_by_its_user_agent(user_agent, name):
    kind = Caller.of({"user-agent": user_agent}).client.kind
    assert (kind and kind.name) == name


def test_an_origin_alone_makes_no_browser():
    """PySyft's WebSocket has one too."""
    assert Caller.of({"origin": "http://127.0.0.1:5000"}).client.kind is None


def test_speeds_are_counted_in_mbit():
    speeds = {
        kind.name: Caller(user_agent=example).client.mbits(1.0)
        for kind, example in zip(KINDS, EXAMPLES, strict=True)
    }
    assert speeds == {"fedplan": 1, "KotlinSyft": 1 / 128, "SwiftSyft": 8, "syft.js": 1}
    phone = Caller(user_agent="okhttp/4.3.1").client
    assert phone.mbits(None) is None
    assert phone.mbits(-1.0) < 0
    assert Caller().client.mbits(3.0) == 3.0


EXAMPLES = ("fedplan/0.1.0", "okhttp/4.3.1", "a/1 CFNetwork/1 Darwin/1", CHROMIUM)


def why_not(name, plans, server=None, **config):
    kind = next((kind for kind in KINDS if kind.name == name), None)
    process = Process(1, "m", "1.0", config, parse_server_config(server or {}), (), None)
    strategy = strategy_of(process.setting)
    return obstacles(
        process,
        plans,
        strategy,
        kind and kind.variant,
        kind,
        tells=kind is not None and kind.tells,
        secures=kind is not None and kind.secures,
    )


def hosted(*variants, **missing):
    return HostedPlan(1, {variant: Variant("blob") for variant in variants}, missing)


def test_a_client_cannot_train_where_a_plan_was_not_hosted_for_it():
    plans = {"training_plan": hosted("list", "tfjs"), "metrics": hosted("list", torchscript="it is too new")}
    assert why_not("fedplan", plans) == []
    assert why_not("syft.js", plans) == ["the Plan 'metrics' is not hosted as tfjs"]
    assert why_not("KotlinSyft", plans, batch_size=1, max_updates=1) == [
        "the Plan 'training_plan' is not hosted as torchscript",
        "the Plan 'metrics' is not hosted as torchscript: it is too new",
    ]
    assert why_not(None, plans) == []


def test_only_who_says_that_it_can_is_taken_where_reports_are_added_up_securely():
    server = {"max_weight": 10.0, "secure_aggregation": {"workers": 3, "clip": 1.0}}
    plans = {"training_plan": hosted("list", "tfjs")}
    assert why_not("fedplan", plans, server) == []
    for name in ("syft.js", None):
        assert why_not(name, plans, server) == [
            "reports are added up by secure aggregation, and it does not say that it can do so"
        ]


def test_a_phone_cannot_train_where_the_client_config_lacks_what_it_reads():
    plans = {"training_plan": hosted("list", "torchscript", "tfjs")}
    whole = {"batch_size": 1, "lr": 0.1, "max_updates": 1}
    for name in ("fedplan", "syft.js", None):
        assert why_not(name, plans) == []
    for name, keys in (("KotlinSyft", ["batch_size", "max_updates"]), ("SwiftSyft", list(whole))):
        assert why_not(name, plans, **whole) == []
        for key in keys:
            assert why_not(name, plans, **whole | {key: None}) == [f"the client_config has no {key}"]


def test_a_client_that_tells_nothing_cannot_train_where_the_strategy_needs_to_know():
    plans = {"training_plan": hosted("list", "torchscript", "tfjs")}
    assert why_not("fedplan", plans, {"strategy": "fednova"}) == []
    for name in ("syft.js", "SwiftSyft", None):
        assert why_not(name, plans, {"strategy": "fednova"}, batch_size=1, lr=1.0, max_updates=1) == [
            "the strategy fednova needs the steps, which it cannot tell"
        ]


def test_an_evaluation_plan_is_for_clients_that_tell_what_they_measured():
    plans = {"training_plan": hosted("list", "tfjs"), "evaluation_plan": hosted("list")}
    assert why_not("syft.js", plans) == why_not("fedplan", plans) == []
    assert list(plans_for(plans, tells=True)) == ["training_plan", "evaluation_plan"]
    assert list(plans_for(plans, tells=False)) == ["training_plan"]


async def ask_as(user_agent, peer, **more):
    worker_id = await peer.authenticate()
    headers = {"user-agent": user_agent}
    message = {"worker_id": worker_id, "model": "m", "version": "1.0"} | more
    reply = await peer.http.post("/model-centric/cycle-request", json=message, headers=headers)
    assert reply.status_code == 200
    return reply.json()


class TestAModelWithoutAVariant:
    """The model of these tests is hosted as a list only."""

    @pytest.fixture(autouse=True)
    async def hosted(self, peer):
        await peer.host(server={"cycle_length": 3600})

    @pytest.mark.parametrize("user_agent", ["okhttp/4.3.1", "a/1 CFNetwork/1 Darwin/1", CHROMIUM, "node"])
    async def test_rejects_who_cannot_load_it_for_good(self, peer, user_agent):
        assert await ask_as(user_agent, peer) == {"status": "rejected"}
        assert (await peer.status())["cycle"]["accepted"] == 0

    @pytest.mark.parametrize("user_agent", ["fedplan/0.1.0", "python-requests/2.34.2", "curl/8.5.0"])
    async def test_takes_who_can_and_who_is_not_known(self, peer, user_agent):
        assert (await ask_as(user_agent, peer))["status"] == "accepted"

    async def test_believes_what_a_client_says_itself(self, peer):
        assert (await ask_as(CHROMIUM, peer, receive_operations_as="list"))["status"] == "accepted"
        assert await ask_as("curl/8.5.0", peer, receive_operations_as="tfjs") == {"status": "rejected"}
        worker_id = await peer.authenticate()
        reply = await peer.post(
            "cycle-request", worker_id=worker_id, model="m", version="1.0", receive_operations_as="onnx"
        )
        assert reply.status_code == 400
        assert "receive_operations_as" in reply.json()["error"]

    async def test_tells_the_operator_once(self, peer, caplog):
        for user_agent in ("okhttp/4.3.1", "okhttp/4.9.0", CHROMIUM):
            await ask_as(user_agent, peer)
        told = [record.message for record in caplog.records if "withheld" in record.message]
        assert told == [
            f"'m' version '1.0' is withheld from {client}: the Plan 'training_plan' is not hosted as {form}"
            for client, form in (("KotlinSyft", "torchscript"), ("syft.js", "tfjs"))
        ]
        metrics = (await peer.http.get("/metrics")).text
        assert 'fedplan_withheld_total{client="KotlinSyft"} 2.0' in metrics
        assert 'fedplan_withheld_total{client="syft.js"} 1.0' in metrics


@pytest.mark.parametrize("scheme", ["http", "ws"])
async def test_our_own_client_says_who_it_is_over_both_transports(scheme):
    heads = []

    async def hang_up(reader, writer):
        heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        writer.close()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    url = "{}://{}:{}".format(scheme, *server.sockets[0].getsockname())
    api = GridApi.connect(GridUrl.parse(url), timeout=5, retry=Retry(attempts=1))
    with pytest.raises(GridConnectionError):
        await api.authenticate("m", "1.0", None)
    await api.aclose()
    server.close()
    headers = dict(line.lower().split(": ", 1) for line in heads[0].splitlines()[1:] if line)
    assert Caller.of(headers).client.kind.name == "fedplan"
