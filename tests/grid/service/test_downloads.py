import asyncio

import pytest

from fedplan.wire import schema
from tests.grid.models import MODEL, arrays, state, training_plan

PROTOCOL = schema.Protocol(name="handshake").encode()


@pytest.fixture
async def worker(peer):
    await peer.host(protocols={"handshake": PROTOCOL.hex()})
    return await peer.join()


async def test_a_worker_gets_the_model_as_raw_bytes(worker):
    reply = await worker.get("get-model", model_id=worker.accepted["model_id"])
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.content == state(*MODEL)
    assert int(reply.headers["content-length"]) == len(reply.content)


async def test_a_model_hosted_as_parameters_is_served_as_plain_tensors_which_phones_can_read(peer):
    hosted = schema.State.decode(state(*MODEL))
    for entry in hosted.tensors:
        entry.torch_param = schema.Parameter(tensor=entry.torch_tensor, requires_grad=True)
        entry.torch_tensor = None
    await peer.host(model=hosted.encode())
    worker = await peer.join()
    reply = await worker.get("get-model", model_id=worker.accepted["model_id"])
    assert all(entry.torch_tensor for entry in schema.State.decode(reply.content).tensors)
    assert [tensor.tolist() for tensor in arrays(reply.content)] == [tensor.tolist() for tensor in MODEL]


@pytest.mark.parametrize("query", [{}, {"receive_operations_as": "list"}])
async def test_a_worker_gets_the_plan_as_raw_bytes(worker, query):
    reply = await worker.get("get-plan", plan_id=worker.accepted["plans"]["training_plan"], **query)
    assert reply.status_code == 200
    assert schema.Plan.decode(reply.content).role == schema.Plan.decode(training_plan()).role


@pytest.mark.parametrize("variant", ["tfjs", "torchscript"])
async def test_a_variant_that_was_not_hosted_is_said_to_be_missing(worker, variant):
    plan_id = worker.accepted["plans"]["training_plan"]
    reply = await worker.get("get-plan", plan_id=plan_id, receive_operations_as=variant)
    assert reply.status_code == 404
    assert f"was not hosted as {variant}; it is there as list" in reply.json()["error"]


async def test_an_unknown_variant_is_refused(worker):
    reply = await worker.get("get-plan", plan_id=1, receive_operations_as="onnx")
    assert reply.status_code == 400
    assert "receive_operations_as" in reply.json()["error"]


async def test_a_worker_gets_the_protocol_as_raw_bytes(worker):
    reply = await worker.get("get-protocol", protocol_id=worker.accepted["protocols"]["handshake"])
    assert reply.status_code == 200
    assert reply.content == PROTOCOL


@pytest.mark.parametrize(
    "query",
    [
        ("get-model", "model_id"),
        ("get-plan", "plan_id"),
        ("get-protocol", "protocol_id"),
    ],
)
class TestADownloadIsRefused:
    async def test_of_what_the_cycle_does_not_have(self, worker, query):
        call, id = query
        for missing in (0, 99, 2**62):
            assert (await worker.get(call, **{id: missing})).status_code == 404

    async def test_when_the_id_is_none(self, worker, query):
        call, id = query
        for wrong in ("x", "", "1.5", "-1", str(2**63), "9" * 30):
            reply = await worker.get(call, **{id: wrong})
            assert reply.status_code == 400
            assert reply.json() == {"error": f"missing or wrong in the query: {id}"}

    async def test_with_a_wrong_key(self, worker, query):
        call, id = query
        for key in ("", "x", worker.request_key[:-1], worker.request_key + "A"):
            reply = await worker.get(call, **{id: 1, "request_key": key})
            assert reply.status_code == 403
            assert "was not given to this worker_id" in reply.json()["error"]

    async def test_with_another_workers_key(self, worker, query):
        call, id = query
        other = await worker.peer.authenticate()
        assert (await worker.get(call, **{id: 1, "worker_id": other})).status_code == 403

    async def test_after_the_cycle(self, worker, query):
        call, id = query
        await worker.report()
        await worker.peer.until_checkpoint(2)
        reply = await worker.get(call, **{id: 1})
        assert reply.status_code == 403
        assert "cycle is over" in reply.json()["error"]


async def test_nobody_gets_another_models_plan(peer):
    await peer.host("m")
    await peer.host("n")
    m, n = await peer.join("m"), await peer.join("n")
    plan_of_n = n.accepted["plans"]["training_plan"]
    assert plan_of_n not in m.accepted["plans"].values()
    assert (await m.get("get-plan", plan_id=plan_of_n)).status_code == 404
    assert (await m.get("get-model", model_id=n.accepted["model_id"])).status_code == 404


async def test_many_workers_download_at_once(peer):
    await peer.host(server={"max_diffs": 20})
    workers = await asyncio.gather(*(peer.join() for _ in range(20)))
    replies = await asyncio.gather(
        *(worker.get("get-model", model_id=worker.accepted["model_id"]) for worker in workers)
    )
    assert {reply.content for reply in replies} == {state(*MODEL)}


class TestWhatAClientHasAlready:
    async def test_is_not_sent_again(self, worker):
        query = {"plan_id": worker.accepted["plans"]["training_plan"]}
        first = await worker.get("get-plan", **query)
        tag = first.headers["etag"]
        keys = {"worker_id": worker.worker_id, "request_key": worker.request_key}
        again = await worker.peer.http.get(
            "/model-centric/get-plan", params=keys | query, headers={"if-none-match": tag}
        )
        assert (again.status_code, again.content) == (304, b"")
        assert again.headers["etag"] == tag

    async def test_is_told_from_other_bytes(self, worker):
        plan = await worker.get("get-plan", plan_id=worker.accepted["plans"]["training_plan"])
        model = await worker.get("get-model", model_id=worker.accepted["model_id"])
        assert plan.headers["etag"] != model.headers["etag"]

    async def test_still_needs_the_key_of_the_cycle(self, worker):
        query = {"plan_id": worker.accepted["plans"]["training_plan"], "worker_id": worker.worker_id}
        tag = (await worker.get("get-plan", plan_id=query["plan_id"])).headers["etag"]
        reply = await worker.peer.http.get(
            "/model-centric/get-plan", params=query | {"request_key": "x"}, headers={"if-none-match": tag}
        )
        assert reply.status_code == 403
