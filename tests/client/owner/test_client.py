import json
from typing import Any

import numpy as np
import pytest
import torch
from starlette.responses import JSONResponse
from torch import nn

from fedplan.client import ModelCentricFLClient, Syft, SyftModel
from fedplan.errors import ConfigError, GridResponseError, InsecureUrlError, PlanError, PlanInputError
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
        "arrays": [param.numpy() for param in params],
        "iterator": iter(params),
        "syft model": make_model(),
        "state": State.of(map(from_torch, params)),
    }


@pytest.mark.parametrize("form", states())
def test_hosting_sends_binaries_as_hex_and_configs_as_they_are(grid: SmallGrid, form: str) -> None:
    with ModelCentricFLClient(grid.url, token="t0ken") as client:
        client.host_federated_training(
            states()[form], {"training_plan": make_plan()}, CLIENT, SERVER, variants=[]
        )
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
        ({"client_config": None}, ConfigError, "client_config: a dict is needed.*this is a NoneType"),
        ({"client_config": "m"}, ConfigError, "client_config: a dict is needed.*this is a str"),
        ({"server_config": [("max_diffs", 1)]}, ConfigError, "server_config: a dict is needed"),
        ({"server_config": {"max_wokers": 3}}, ConfigError, "'max_wokers' is not a key"),
        ({"server_config": {"max_diffs": np.True_}}, ConfigError, "'max_diffs'"),
        ({"server_config": {"max_diffs": np.float32(2.5)}}, ConfigError, "'max_diffs'"),
        ({"client_config": {**CLIENT, "lr": torch.tensor([0.1, 0.2])}}, ConfigError, "'lr'"),
        ({"client_config": {**CLIENT, "lr": torch.zeros(1, device="meta")}}, ConfigError, "'lr' cannot be"),
        ({"client_config": {**CLIENT, "mine": {1, 2}}}, ConfigError, "not JSON"),
        ({"client_config": {**CLIENT, "mine": np.complex64(1)}}, ConfigError, "not JSON"),
        ({"client_config": {"name": "m", "version": "1.0"}}, ConfigError, "needs 'lr', which is not there"),
        ({"client_config": {**CLIENT, "lr": None}}, ConfigError, "needs 'lr', which is null"),
        ({"client_config": {**CLIENT, "lr": "0.1"}}, ConfigError, "'lr': Input should be a valid number"),
        ({"client_config": {**CLIENT, "lr": 1e39}}, ConfigError, "'lr' as a finite number"),
        ({"model": nn.Linear(2, 2)}, PlanInputError, "the model has only 2"),
        ({"model": None}, ConfigError, "the model is a NoneType"),
        ({"model": "model.pb"}, ConfigError, "the model is a str"),
        ({"model": make_model().serialize()}, ConfigError, "the model is a bytes"),
        ({"model": torch.zeros(5, 6)}, ConfigError, "the model is a Tensor"),
        ({"model": {"0.wieght": torch.zeros(5, 6)}}, ConfigError, "a dict without '0.weight'"),
        ({"model": [1.0, 2.0]}, ConfigError, "element 0 of the model is a float, and no tensor"),
        ({"model": [torch.zeros(5, 6), None]}, ConfigError, "element 1 of the model is a NoneType"),
        ({"model": [np.array(["a"])]}, ConfigError, "element 0 of the model: .* cannot become a tensor"),
        ({"model": []}, ConfigError, "it has no tensors"),
        ({"model": nn.ReLU()}, ConfigError, "it has no tensors"),
        ({"model": nn.LazyLinear(3)}, ConfigError, "a lazy layer"),
        ({"model": nn.Linear(6, 5, device="meta")}, ConfigError, "tensor 0 .* has no values"),
        ({"model": [torch.zeros(2, 2).to_sparse()]}, ConfigError, "tensor 0 .* is sparse"),
        ({"model": [torch.zeros(2, dtype=torch.complex64)]}, ConfigError, "the dtype complex64"),
        ({"client_plans": {}}, ConfigError, "client_plans is empty"),
        ({"client_plans": None}, ConfigError, "client_plans is a NoneType; a dict with names"),
        ({"client_plans": make_plan()}, ConfigError, r"client_plans is a Plan; .*\{'training_plan': plan\}"),
        ({"client_plans": {"p": make_plan().serialize()}}, ConfigError, r"\['p'\] is a bytes.*Plan.parse"),
        ({"client_plans": {"p": None}}, ConfigError, r"client_plans\['p'\] is a NoneType"),
        ({"client_plans": {1: make_plan()}}, ConfigError, "client_plans: the name 1 is no text"),
        ({"client_plans": dict.fromkeys(map(str, range(101)), make_plan())}, ConfigError, "101 .* most 100"),
        ({"server_averaging_plan": b"plan"}, ConfigError, "server_averaging_plan is a bytes"),
        ({"client_protocols": [schema.Protocol()]}, ConfigError, "client_protocols is a list"),
        ({"client_protocols": {"p": b"protocol"}}, ConfigError, "is a bytes, and no Protocol"),
        ({"variants": "tfjs"}, ConfigError, "variants must be a list of names"),
        ({"variants": [None]}, ConfigError, "variants must be names"),
        ({"variants": ["onnx"]}, PlanError, "no variant 'onnx'"),
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


@pytest.mark.parametrize(
    ("value", "number"),
    [
        (np.float32(0.1), 0.10000000149011612),
        (np.float64(0.1), 0.1),
        (np.longdouble(0.5), 0.5),
        (np.array([[0.25]]), 0.25),
        (torch.tensor(0.25, requires_grad=True), 0.25),
        (torch.tensor([0.25]), 0.25),
        (np.int64(1), 1),
    ],
)
def test_numbers_of_numpy_and_torch_are_hosted_as_pythons(grid: SmallGrid, value: Any, number: float) -> None:
    client_config = {
        **CLIENT,
        "lr": value,
        "batch_size": np.int64(8),
        "max_epochs": torch.tensor(2),
        "flags": (np.True_, {"weights": np.array([1.5, 2.5], np.float32)}),
    }
    with ModelCentricFLClient(grid.url) as client:
        client.host_federated_training(
            make_module(),
            {"training_plan": make_plan()},
            client_config,
            {"min_diffs": np.uint8(1), "cycle_length": np.float32(60)},
            variants=(),
        )
    (sent,) = grid.asked("host-training")
    assert sent["client_config"] == {
        **CLIENT,
        "lr": number,
        "batch_size": 8,
        "max_epochs": 2,
        "flags": [True, {"weights": [1.5, 2.5]}],
    }
    assert sent["server_config"] == {"min_diffs": 1, "cycle_length": 60.0}


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


@pytest.mark.parametrize("token", ["line\n", "töken", " ", b"token", 5])
def test_a_token_that_no_header_can_hold_is_refused_and_not_repeated(token: Any) -> None:
    with pytest.raises(ConfigError, match="printable ASCII") as error:
        ModelCentricFLClient("https://grid.example", token)
    assert "töken" not in str(error.value)


@pytest.mark.parametrize("timeout", [0, -1, None, "5", True, float("nan")])
def test_a_timeout_that_is_no_time_is_refused(timeout: Any) -> None:
    for make in (ModelCentricFLClient, Syft):
        with pytest.raises(ConfigError, match="timeout must be a number of seconds"):
            make("https://grid.example", timeout=timeout)


def test_a_token_is_not_sent_in_the_clear_to_another_machine() -> None:
    with pytest.raises(InsecureUrlError, match="token"):
        ModelCentricFLClient("http://grid.example", token="t")
    ModelCentricFLClient("http://grid.example")
    ModelCentricFLClient("http://localhost:5000", token="t")
    ModelCentricFLClient("https://grid.example", token="t")
