import numpy as np
import pytest

from fedplan.plan import Plan
from tests.grid.models import MODEL, arrays, hosting, state


@pytest.fixture
async def trained(peer):
    """A model with the checkpoints 1 and 2."""
    await peer.host()
    await (await peer.join()).report(1)
    await peer.until_checkpoint(2)
    return peer


async def retrieve(peer, **query):
    return await peer.http.get("/model-centric/retrieve-model", params=query)


async def test_a_checkpoint_comes_as_a_raw_state(trained):
    reply = await retrieve(trained, name="m", version="1.0", checkpoint="1")
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/octet-stream"
    assert reply.content == state(*MODEL)


@pytest.mark.parametrize("query", [{}, {"checkpoint": "latest"}, {"checkpoint": 2}, {"version": "1.0"}])
async def test_the_latest_one_is_meant_when_nothing_else_is_said(trained, query):
    reply = await retrieve(trained, name="m", **query)
    assert reply.content == state(*(array - np.float32(1) for array in MODEL))


async def test_what_does_not_exist_is_not_found(trained):
    for query in (
        {"name": "n"},
        {"name": "m", "version": "2.0"},
        {"name": "m", "checkpoint": "3"},
        {"name": "m", "checkpoint": "0"},
        {"name": "m", "checkpoint": "-1"},
        {"name": "m", "checkpoint": "newest"},
        {"name": "m", "checkpoint": "²"},
        {"name": "m", "checkpoint": "9" * 40},
    ):
        reply = await retrieve(trained, **query)
        assert reply.status_code == 404
        assert set(reply.json()) == {"error"}


async def test_a_name_is_needed(trained):
    reply = await retrieve(trained)
    assert reply.status_code == 400
    assert reply.json() == {"error": "missing or wrong in the query: name"}


async def test_where_there_is_an_owner_token_checkpoints_are_for_who_shows_it_unless_they_are_public(
    open_grid,
):
    query = {"name": "m", "checkpoint": "1"}
    async with open_grid(owner_token="secret") as peer:
        owner = {"authorization": "Bearer secret"}
        for name, server in (("m", {}), ("p", {"public": True})):
            reply = await peer.http.post(
                "/model-centric/host-training", json=hosting(name, server=server), headers=owner
            )
            assert reply.status_code == 200, reply.text
        refused = await peer.http.get("/model-centric/retrieve-model", params=query)
        assert refused.status_code == 401
        assert "the checkpoints of 'm' are for the grid's owner and who may read" in refused.json()["error"]
        plan = {"name": "m", "plan": "training_plan"}
        refused = await peer.http.get("/model-centric/retrieve-plan", params=plan)
        assert refused.status_code == 401
        assert "the Plans of 'm' are for the grid's owner" in refused.json()["error"]
        for params, headers in ((plan, owner), (plan | {"name": "p"}, {})):
            reply = await peer.http.get("/model-centric/retrieve-plan", params=params, headers=headers)
            assert Plan.parse(reply.content).graph.nodes
        missing = await peer.http.get(
            "/model-centric/retrieve-plan", params=plan | {"plan": "x"}, headers=owner
        )
        assert missing.status_code == 404
        worker = await peer.join()
        assert (await worker.get("get-model", model_id=worker.accepted["model_id"])).status_code == 200
        for params, headers in ((query, owner), ({**query, "name": "p"}, {})):
            reply = await peer.http.get("/model-centric/retrieve-model", params=params, headers=headers)
            assert arrays(reply.content)[1].tolist() == [0, 0]


async def test_a_worker_may_have_the_checkpoint_that_its_open_cycle_starts_from_and_no_other(open_grid):
    async with open_grid(owner_token="secret") as peer:
        owner = {"authorization": "Bearer secret"}
        for name in ("m", "n"):
            message = hosting(name, server={"max_diffs": 1})
            await peer.http.post("/model-centric/host-training", json=message, headers=owner)
        first = await peer.join()
        assert (await first.get("retrieve-model", name="m", checkpoint="1")).content == state(*MODEL)
        for query in ({"name": "n"}, {"name": "m", "checkpoint": "2"}, {"name": "m", "request_key": "x"}):
            assert (await first.get("retrieve-model", **query)).status_code == 403
        await first.report(1)
        peer.http.headers.update(owner)
        await peer.until_checkpoint(2)
        del peer.http.headers["authorization"]
        assert (await first.get("retrieve-model", name="m", checkpoint="1")).status_code == 403
        second = await peer.join()
        assert (await second.get("retrieve-model", name="m")).status_code == 200
