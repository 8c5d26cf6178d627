import contextlib
import dataclasses
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from typer.testing import CliRunner, Result

from fedplan.cli.main import app
from fedplan.client import SyftModel
from fedplan.plan import accuracy, model_parameters, training_plan
from tests.processes import Process

Invoke = Callable[..., Result]
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLAN_")} | {
    "FEDPLAN_RETRY_SECONDS": "1",
    "OMP_NUM_THREADS": "1",
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On tensors this small threads only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def fedplan(monkeypatch: pytest.MonkeyPatch) -> Invoke:
    """Runs `fedplan …` in this process, without the variables that are about the tests."""
    for name in os.environ.keys() - ENVIRONMENT.keys():
        monkeypatch.delenv(name)

    def invoke(*arguments: object) -> Result:
        return CliRunner().invoke(app, [str(argument) for argument in arguments])

    return invoke


@contextlib.contextmanager
def fedplan_process(*arguments: object, **environment: str) -> Iterator[Process]:
    """Runs `fedplan …` in a process of its own, which ends at the end of the `with` block at the latest."""
    with Process("-m", "fedplan", *arguments, env=ENVIRONMENT | environment) as process:
        try:
            yield process
        finally:
            process.terminate()


@pytest.fixture(scope="session")
def grid_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a real grid: `fedplan serve` in a process of its own."""
    with fedplan_process("serve", "--port", 0, "--data", tmp_path_factory.mktemp("grid")) as process:
        yield process.stdout.readline().strip()


@dataclasses.dataclass(frozen=True)
class Project:
    """What a model owner and a worker have as files: a linear model, two classes, three features."""

    folder: Path

    def __getitem__(self, name: str) -> Path:
        return self.folder / name


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    project = Project(tmp_path_factory.mktemp("project"))
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    plan = training_plan(
        model,
        nn.functional.cross_entropy,
        example=(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)),
        metrics={"accuracy": accuracy},
    )
    project["plan.pb"].write_bytes(plan.serialize())
    project["model.pb"].write_bytes(SyftModel(model_parameters(model)).serialize())
    samples = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
    np.savez(project["data.npz"], x=samples, y=(samples[:, 0] > 0).astype(np.int64))
    return project


def write_configs(folder: Path, name: str, **server_config: object) -> tuple[object, ...]:
    """The config files of a model of this name, as options."""
    client, server = folder / "client.json", folder / "server.json"
    client.write_text(json.dumps({"name": name, "version": "1.0", "batch_size": 8, "lr": 0.5}))
    server.write_text(json.dumps(server_config))
    return "--client-config", client, "--server-config", server


@pytest.fixture
def host(fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path):
    def host(name: str, **server_config: object) -> None:
        result = fedplan(
            "host", "--url", grid_url, "--model", project["model.pb"],
            "--plan", f"training_plan={project['plan.pb']}", *write_configs(tmp_path, name, **server_config),
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        assert result.stdout == ""

    return host
