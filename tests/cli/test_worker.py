"""`fedplan worker --state` and `--device`, against a real grid in a process of its own."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from fedplan.plan import training_plan
from tests.cli.conftest import Invoke, Project, write_configs


@pytest.fixture
def personal(fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path) -> tuple[object, ...]:
    """How a worker names a model whose bias is private."""
    example = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    plan = training_plan(nn.Linear(3, 2), nn.functional.cross_entropy, example=example, private=["bias"])
    (tmp_path / "plan.pb").write_bytes(plan.serialize())
    name = f"personal {tmp_path.name}"
    result = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"], "--plan",
        f"training_plan={tmp_path / 'plan.pb'}", *write_configs(tmp_path, name, max_diffs=1),
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return ("--url", grid_url, "--model", name, "--version", "1.0", "--data", project["data.npz"])


def test_a_worker_keeps_its_state_in_the_folder_that_it_names(
    fedplan: Invoke, personal: tuple[object, ...], tmp_path: Path
) -> None:
    seen = []
    for _ in range(2):
        result = fedplan("worker", *personal, "--cycles", 1, "--state", tmp_path / "mine", "--device", "cpu")
        assert result.exit_code == 0, result.output
        (path,) = (tmp_path / "mine").glob("*.json")
        seen.append(json.loads(path.read_text())["sha256"])
    assert seen[0] != seen[1]
    path.write_text("{}")
    result = fedplan("worker", *personal, "--cycles", 1, "--state", tmp_path / "mine")
    assert result.exit_code == 1
    assert str(path) in result.stderr.replace("\n", "")
    assert path.read_text() == "{}"


def test_a_device_that_is_not_there_is_an_error_of_one_line(
    fedplan: Invoke, personal: tuple[object, ...]
) -> None:
    result = fedplan("worker", *personal, "--device", "cuda:99")
    assert result.exit_code == 1
    assert "there is no training on the device 'cuda:99' here" in result.stderr
