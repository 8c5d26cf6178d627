import json
from typing import Any

import pytest
import torch
from starlette.responses import JSONResponse
from torch import nn

from fedplan.client import ModelCentricFLClient, SyftModel
from fedplan.errors import ConfigError, GridResponseError, InsecureUrlError, PlanInputError
from fedplan.plan import Plan, from_torch, model_parameters
from fedplan.wire import State, schema
from fedplan.wire.messages import StatusReply
from tests.client.small_grid import SmallGrid
from tests.client.training_cases import make_model, make_module, make_plan, make_probe

CLIENT = {"name": "m", "version": "1.0", "lr": 0.1, "mine": None}
SERVER = {"min_diffs": 1, "num_cycles": 2}


def states() -> dict[str, Any]:
    params = make_model().params
    return {
        "module": make_module(),
        "tensors": params,
        "parameters": list(make_module().parameters()),
        "state": State.of(map(from_torch, params)),
    }


@pytest.mark.parametrize("form", states())
def test_hosting_sends_binaries_as_hex_and_configs_as_they_are(grid: SmallGrid, form: str) -> None:
    with ModelCentricFLClient(grid.url, token="t0ken") as client:
        client.host_federated_training(states()[form], {"training_plan": make_plan()}, CLIENT, SERVER)
    (sent,) = grid.asked("host-training")
    assert bytes.fromhex(sent["model"]) == make_model().serialize()
    plan = Plan.parse(bytes.fromhex(sent["plans"]["training_plan"]))
    assert plan.input_specs == make_plan().input_specs
    assert (sent["client_config"], sent["server_config"]) == (CLIENT, SERVER)
    assert "averaging_plan" not in sent
    assert sent["protocols"] == {}
    assert grid.headers[0]["authorization"] == "Bearer t0ken"


def test_an_averaging_plan_and_protocols_go_along(grid: SmallGrid) -> None:
    with ModelCentricFLClient(grid.ws_url) as client:  # over HTTP all the same
        client.host_federated_training(
            make_module(),
            {"training_plan": make_plan()},
            CLIENT,
            SERVER,
            server_averaging_plan=make_probe(),
            client_protocols={"p": schema.Protocol(name="p")},
        )
    (sent,) = grid.asked("host-training")
    assert Plan.parse(bytes.fromhex(sent["averaging_plan"])).name == "probe"
    assert schema.Protocol.decode(bytes.fromhex(sent["protocols"]["p"])).name == "p"
    assert grid.sockets == 0
    assert "authorization" not in grid.headers[0]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"client_config": {"version": "1.0"}}, ConfigError, "client_config: 'name'"),
        ({"server_config": {"max_wokers": 3}}, ConfigError, "'max_wokers' is not a key"),
        ({"model": nn.Linear(2, 2)}, PlanInputError, "the model has only 2"),
    ],
)
def test_what_is_wrong_is_found_before_anything_is_sent(
    grid: SmallGrid, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    arguments: dict[str, Any] = {
        "model": make_module(),
        "client_plans": {"training_plan": make_plan()},
        "client_config": CLIENT,
        "server_config": SERVER,
    }
    with ModelCentricFLClient(grid.url) as client, pytest.raises(error, match=message):
        client.host_federated_training(**{**arguments, **changes})
    assert grid.requests == []


async def test_a_refusal_is_raised_with_the_grids_words(grid: SmallGrid) -> None:
    grid.answer("host-training", JSONResponse({"error": "the name is taken"}, 409))
    async with ModelCentricFLClient(grid.url) as client:
        with pytest.raises(GridResponseError, match="the name is taken"):
            await client.host_federated_training_async(
                make_module(), {"training_plan": make_plan()}, CLIENT, SERVER
            )


def test_a_checkpoint_is_retrieved_and_loads_into_a_module(grid: SmallGrid) -> None:
    module = make_module()
    nn.init.zeros_(module[0].weight)  # type: ignore[index,arg-type]
    with ModelCentricFLClient(grid.url) as client:
        model = client.retrieve_model("m", "1.0")
        client.retrieve_model("m", "1.0", 3)
    assert isinstance(model, SyftModel)
    model.load_into(module)
    assert all(torch.equal(a, b) for a, b in zip(model_parameters(module), make_model().params, strict=True))
    assert [q["checkpoint"] for q in grid.asked("retrieve-model")] == ["latest", "3"]


async def test_the_status_is_typed(grid: SmallGrid) -> None:
    cycle = {
        "number": 2,
        "phase": "open",
        "accepted": 1,
        "reported": 0,
        "needed": 1,
        "opened_at": "2026-01-01T00:00:00Z",
    }
    checkpoint = {"number": 2, "created_at": "2026-01-01T00:00:00Z"}
    model = {"name": "m", "version": "1.0", "phase": "training", "cycle": cycle, "checkpoints": [checkpoint]}
    grid.answer("status", json.dumps({"models": [model]}).encode(), json.dumps({"models": []}).encode())
    async with ModelCentricFLClient(grid.url) as client:
        reply = await client.status_async("m")
        assert isinstance(reply, StatusReply)
        assert reply.models[0].cycle.number == 2
        assert (await client.status_async()).models == []
    assert grid.asked("status") == [{"name": "m"}, {}]


def test_a_token_is_not_sent_in_the_clear_to_another_machine() -> None:
    with pytest.raises(InsecureUrlError, match="token"):
        ModelCentricFLClient("http://grid.example", token="t")
    ModelCentricFLClient("http://grid.example")
    ModelCentricFLClient("http://localhost:5000", token="t")
    ModelCentricFLClient("https://grid.example", token="t")
