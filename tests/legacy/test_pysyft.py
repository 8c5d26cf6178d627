"""PySyft 0.2.9, unchanged, and a grid of fedplan: its client hosts, its workers train, its parser reads."""

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
from fedplan.plan import model_parameters
from fedplan.plan.variants.torchscript import write
from fedplan.wire import schema
from tests.cli.conftest import fedplan_process
from tests.legacy.environments import PYSYFT, wanted
from tests.plan.tracing.test_training import traced

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
