"""PySyft 0.2.9, unchanged: its client hosts at a grid of fedplan, its workers train there, and it reads and
writes what is hosted at a PyGrid node, which has no other eyes."""

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch

from fedplan.client import SyftModel
from fedplan.plan import Plan, from_torch, make_variant, model_parameters
from fedplan.plan.message.for_pysyft import for_pysyft
from fedplan.plan.variants.tfjs import interpreter
from fedplan.plan.variants.torchscript import write
from fedplan.wire import State, schema
from tests.cli.conftest import fedplan_process
from tests.legacy.environments import PYSYFT, wanted
from tests.plan.families import FAMILIES
from tests.plan.fixtures import FOLDER
from tests.plan.tracing.test_training import optimizer_state, traced

pytestmark = [wanted, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where a real grid answers: `fedplan serve` in a process of its own."""
    with fedplan_process("serve", "--port", 0, "--data", tmp_path_factory.mktemp("grid")) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip().removeprefix("http://")


def run(script: str, *arguments: str) -> Any:
    command = [str(PYSYFT), "-W", "ignore", str(Path(__file__).with_name("scripts") / script), *arguments]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def test_pysyft_hosts_its_plan_and_trains_a_cycle(address: str) -> None:
    found = run("pysyft_cycle.py", address)
    assert found["host"]["data"]["status"] == "success"
    for kind in ("list", "torchscript"):
        assert found[kind]["report"] == {"status": "success"}
        assert found[kind]["losses"][-1] < found[kind]["losses"][0]
        first, last = (found[kind]["losses"][i] for i in (0, -1))
        print(f"\nPySyft 0.2.9, torch {found['torch']}, {kind}: loss {first:.2f} to {last:.2f}", end="")
    assert found["apart"] < 1e-6
    print(f"\nthe next checkpoint is the average to {found['apart']:.1e}")


def test_the_package_syft_proto_reads_what_the_grid_serves(address: str) -> None:
    model, plan = traced("MLP, Adam")
    message = schema.Plan.decode(plan.serialize())
    message.torchscript = write(plan)
    parameters = model_parameters(model)
    hosted = {
        "model": SyftModel(parameters).serialize().hex(),
        "plans": {"training_plan": message.encode().hex()},
        "protocols": {},
        "client_config": {"name": "fedplan", "version": "1.0", "batch_size": 4, "lr": 0.1, "max_updates": 1},
        "server_config": {"min_diffs": 1, "num_cycles": 1},
    }
    httpx.post(f"http://{address}/model-centric/host-training", json=hosted, timeout=30).raise_for_status()
    found = run("syft_proto_reads.py", address, "fedplan", "1.0")
    assert found["shapes"] == [list(p.shape) for p in parameters]
    assert set(found["dtypes"]) == {"float32"}
    for values, parameter in zip(found["values"], parameters, strict=True):
        assert torch.equal(torch.tensor(values), parameter.reshape(-1))
    assert found["name"] == plan.name
    assert found["commands"] == [node.op for node in plan.graph.nodes]
    assert found["inputs"] == list(plan.graph.inputs)
    assert found["outputs"] == list(plan.graph.outputs)
    assert found["unknown_fields"] == 0
    assert base64.b64decode(found["torchscript"]) == write(plan)
    assert found["torchscript_actions"] == 0


HOSTED = (
    "softmax regression",
    "MLP, Adam",
    "CNN with batch norm",
    "CNN with other layers",
    "embedding, attention, layer norm",
    "GRU",
)


def test_a_plan_that_pysyft_has_read_and_written_is_the_same_to_workers_and_browsers(tmp_path: Path) -> None:
    plans = {name: make_variant(traced(name)[1], "tfjs") for name in HOSTED}
    for name, plan in plans.items():
        (tmp_path / f"{name}.plan.pb").write_bytes(for_pysyft(plan.serialize()))
    dtypes = [
        from_torch(torch.tensor([[2, 0], [4, 6]]).to(getattr(torch, kind))) for kind in DTYPES_OF_MODELS
    ]
    (tmp_path / "model.pb").write_bytes(State.of(dtypes).serialize())
    found = run("pysyft_node.py", str(tmp_path))
    for name, plan in plans.items():
        arguments = arguments_of(name, plan)
        read = Plan.parse((tmp_path / f"{name}.list.pb").read_bytes())
        assert [item.spec for item in read.inputs] == [item.spec for item in plan.inputs]
        assert [item.shape for item in read.inputs] == [item.shape for item in plan.inputs]
        assert [item.role for item in read.inputs] == [item.role for item in plan.inputs]
        assert read.output_specs == plan.output_specs
        for ours, theirs in zip(plan(*arguments), read(*arguments), strict=True):
            assert torch.equal(ours, theirs)
        role = schema.Plan.decode((tmp_path / f"{name}.tfjs.pb").read_bytes()).role
        assert role is not None
        assert plan.variants.tfjs is not None
        for ours, theirs in zip(
            interpreter.execute(plan.variants.tfjs, arguments),
            interpreter.execute(role, arguments),
            strict=True,
        ):
            assert torch.equal(ours, theirs)
        assert found[name] == {"list": len(plan.graph.nodes), "torchscript": 0, "tfjs": len(role.actions)}
    mean = State.parse((tmp_path / "mean.pb").read_bytes()).tensors
    assert [tensor.dtype for tensor in mean] == DTYPES_OF_MODELS
    assert all(tensor.array.tolist() == [[2, 0], [4, 6]] for tensor in mean)
    print(f"\nPySyft 0.2.9 reads and writes, and nothing changes: {'; '.join(found)}")


def arguments_of(name: str, plan: Plan) -> list[torch.Tensor]:
    """A batch, a learning rate, the model's parameters and the optimizer's tensors."""
    torch.manual_seed(1)
    model = model_parameters(traced(name)[0])
    return [*FAMILIES[name].batch(5), torch.tensor([0.1]), *model, *optimizer_state(plan)]


DTYPES_OF_MODELS = ["float32", "float64", "int32", "int64"]


def test_a_plan_that_pysyft_made_is_hosted_with_its_torchscript(tmp_path: Path) -> None:
    plan = Plan.parse((FOLDER / "small_mlp_sgd" / "as_sent_by_client.plan.pb").read_bytes())
    (tmp_path / "mlp.plan.pb").write_bytes(for_pysyft(plan.serialize()))
    (tmp_path / "model.pb").write_bytes(SyftModel([torch.ones(1)]).serialize())
    run("pysyft_node.py", str(tmp_path))
    assert schema.Plan.decode((tmp_path / "mlp.torchscript.pb").read_bytes()).torchscript
    read = Plan.parse((tmp_path / "mlp.list.pb").read_bytes())
    assert [item.argument for item in read.inputs] == [item.argument for item in plan.inputs]
    assert [item.made_with for item in read.inputs] == [item.made_with for item in plan.inputs]


def test_an_archive_of_fedplan_is_what_pysyft_cannot_load(tmp_path: Path) -> None:
    """Why it is left out: once this fails, it need not be."""
    _, plan = traced("MLP")
    message = schema.Plan.decode(for_pysyft(make_variant(plan, "tfjs").serialize()))
    message.torchscript = write(plan)
    (tmp_path / "mlp.plan.pb").write_bytes(message.encode())
    with pytest.raises(subprocess.CalledProcessError):
        run("pysyft_node.py", str(tmp_path))
