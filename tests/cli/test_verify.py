"""`fedplan verify`, beside a grid that runs and without one."""

import json
import time
from pathlib import Path

import httpx
import pytest

from tests.cli.conftest import Invoke, fedplan_process
from tests.grid.models import base64_of, diff, hosting


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("grid")


def trained(fedplan: Invoke, data: Path, name: str, **environment: str) -> None:
    """A model of two checkpoints, on a grid that has ended."""
    with fedplan_process("serve", "--port", 0, "--data", data, **environment) as process:
        url = process.stdout.readline().strip()
        with httpx.Client(base_url=f"{url}/model-centric", timeout=30) as http:
            train(http, name)
        assert fedplan("verify", name, "1.0", "--data", data).exit_code == 0


def train(http: httpx.Client, name: str) -> None:
    def post(call: str, **message: object) -> dict[str, str]:
        reply = http.post(f"/{call}", json=message)
        assert reply.status_code == 200, reply.text
        return dict(reply.json())

    post("host-training", **hosting(name))
    worker = post("authenticate", model_name=name, model_version="1.0")["worker_id"]
    key = post("cycle-request", worker_id=worker, model=name, version="1.0")["request_key"]
    post("report", worker_id=worker, request_key=key, diff=base64_of(diff(0.5)))
    for _ in range(500):
        if http.get("/retrieve-model", params={"name": name, "checkpoint": "2"}).status_code == 200:
            return
        time.sleep(0.02)
    raise AssertionError("the cycle does not close")


def test_it_says_of_each_checkpoint_whether_it_is_what_it_was(fedplan: Invoke, data: Path) -> None:
    trained(fedplan, data, "kept", FEDPLAN_KEEP_DIFFS="true")
    told = fedplan("verify", "kept", "1.0", "--data", data)
    assert told.exit_code == 0
    assert "recomputed: equal" in told.stdout
    trained(fedplan, data, "not kept")
    for name in ("not kept", "kept"):  # that grid keeps none
        told = fedplan("verify", name, "1.0", "--data", data, "--checkpoint", 2)
        assert told.exit_code == 0
        assert "the checksums are good; 0 of its 1 reports are kept" in told.stdout
    assert "checkpoint 1" not in told.stdout
    unknown = fedplan("verify", "nobody", "1.0", "--data", data)
    assert unknown.exit_code == 1
    assert "this grid hosts no model 'nobody'" in unknown.stderr


def test_what_is_damaged_is_named_and_fails(fedplan: Invoke, data: Path) -> None:
    trained(fedplan, data, "damaged")
    found = json.loads(fedplan("verify", "damaged", "1.0", "--data", data, "--json").stdout)
    assert [one["outcome"] for one in found] == ["good"] * 4
    before = set((data / "blobs" / "models").iterdir())
    trained(fedplan, data, "damaged too")
    model = max(set((data / "blobs" / "models").iterdir()) - before)
    content = bytearray(model.read_bytes())
    content[50] ^= 1
    model.write_bytes(content)
    told = fedplan("verify", "damaged too", "1.0", "--data", data)
    assert told.exit_code == 1
    assert f"models/{model.name}" in told.stdout
    assert "not as stored" in told.stderr
    assert fedplan("verify", "damaged", "1.0", "--data", data).exit_code == 0


def test_it_makes_no_grid(fedplan: Invoke, tmp_path: Path) -> None:
    nothing = fedplan("verify", "m", "1.0", "--data", tmp_path)
    assert nothing.exit_code == 1
    assert "there is no grid in" in nothing.stderr
    assert list(tmp_path.iterdir()) == []
