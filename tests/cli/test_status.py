"""`fedplan status --wait`, and what commands say when there is nothing to wait for or to train on."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedplan.client import SyftModel
from fedplan.plan import model_parameters, training_plan
from fedplan.wire import State
from tests.cli.conftest import Invoke, Project, fedplan_process, write_configs

WAIT = ("--version", "1.0", "--wait", "--timeout", 60)


@pytest.fixture
def train(fedplan: Invoke, grid_url: str, project: Project):
    def train(name: str, cycles: int = 1) -> None:
        where = ("--url", grid_url, "--model", name, "--version", "1.0", "--data", project["data.npz"])
        result = fedplan("worker", *where, "--cycles", cycles)
        assert result.exit_code == 0, result.output

    return train


def test_a_wait_ends_when_the_checkpoint_holds_the_trained_model(
    fedplan: Invoke, grid_url: str, project: Project, host, train, tmp_path: Path
) -> None:
    host("awaited", max_diffs=1, num_cycles=2)
    train("awaited")
    shown = fedplan("status", "--url", grid_url, "--model", "awaited", *WAIT, "--checkpoint", 2)
    assert shown.exit_code == 0, shown.output
    row = next(line for line in shown.stdout.splitlines() if line.startswith("awaited"))
    assert row.split()[-1] != "1"
    fedplan(
        "retrieve", "--url", grid_url, "--model", "awaited", "--version", "1.0", "--out", tmp_path / "m.pb"
    )
    hosted, trained = (State.parse(path.read_bytes()) for path in (project["model.pb"], tmp_path / "m.pb"))
    for a, b in zip(hosted.tensors, trained.tensors, strict=True):
        assert np.abs(a.array - b.array).max() > 1e-3


def test_a_wait_is_for_the_next_checkpoint_or_the_end(
    fedplan: Invoke, grid_url: str, project: Project, host
) -> None:
    host("ending", max_diffs=1, num_cycles=3)
    where = ("--url", grid_url, "--model", "ending", "--version", "1.0")
    with (
        fedplan_process("status", *where, *WAIT[2:], "--json") as next_one,
        fedplan_process("status", *where, *WAIT[2:], "--finished", "--json") as end,
    ):
        with fedplan_process("worker", *where, "--data", project["data.npz"]) as worker:
            assert worker.wait(60) == 0
        for process, least in ((next_one, 2), (end, 4)):
            output, errors = process.communicate(timeout=60)
            assert process.returncode == 0, errors
            (model,) = json.loads(output)["models"]
            assert model["checkpoints"][0]["number"] >= least
    assert model["phase"] == "finished"


def test_a_wait_that_was_too_short_says_what_the_cycle_waits_for(
    fedplan: Invoke, grid_url: str, host, train
) -> None:
    host("slow", max_diffs=2, min_diffs=2)
    train("slow")
    result = fedplan(
        "status", "--url", grid_url, "--model", "slow", "--version", "1.0", "--wait", "--timeout", 0.3
    )
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == (
        "fedplan: 'slow' 1.0 has no checkpoint 2 after 0.3 s: cycle 1 has 1 report and needs 2; 0 workers "
        "are training; it closes with report 2. Its newest checkpoint is 1\n"
    )


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--model", "nobody", *WAIT), 1, "hosts no model 'nobody'"),
        (("--model", "versions", "--version", "9", "--wait"), 1, "its versions are: '1.0'"),
        (("--model", "versions", "--version", "9"), 1, "hosts no version '9'"),
        (("--model", "versions", *WAIT, "--finished"), 1, "trained without end"),
        (("--model", "versions", "--wait"), 2, "--model and --version"),
        (("--version", "1.0"), 2, "of which model?"),
        (("--model", "versions", "--checkpoint", 2), 2, "add --wait"),
        (("--finished",), 2, "add --wait"),
        (("--timeout", 5), 2, "add --wait"),
        (("--model", "versions", *WAIT, "--finished", "--checkpoint", 2), 2, "not for several"),
    ],
)
def test_what_cannot_be_waited_for_is_said_at_once(
    fedplan: Invoke, grid_url: str, host, options: tuple[object, ...], code: int, message: str
) -> None:
    if fedplan("status", "--url", grid_url, "--name", "versions").exit_code:
        host("versions", max_diffs=1)
    result = fedplan("status", "--url", grid_url, *options)
    assert result.exit_code == code
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_one_version_of_a_model_can_be_shown(fedplan: Invoke, grid_url: str, host) -> None:
    host("single", max_diffs=1)
    result = fedplan("status", "--url", grid_url, "--model", "single", "--version", "1.0", "--json")
    (model,) = json.loads(result.stdout)["models"]
    assert (model["name"], model["version"]) == ("single", "1.0")


# Nothing to train on


def test_a_worker_without_a_sample_says_so_and_takes_no_place(
    fedplan: Invoke, grid_url: str, host, tmp_path: Path
) -> None:
    host("empty", max_diffs=1)
    data = tmp_path / "none.npz"
    np.savez(data, x=np.zeros((0, 3), np.float32), y=np.zeros(0, np.int64))
    where = ("--url", grid_url, "--model", "empty", "--version", "1.0")
    result = fedplan("worker", *where, "--data", data)
    assert result.exit_code == 1
    assert result.stderr == f"fedplan: {data}: there is no sample in it, so nothing to train on\n"
    (model,) = json.loads(fedplan("status", *where, "--json").stdout)["models"]
    assert (model["cycle"]["accepted"], model["cycle"]["reported"]) == (0, 0)


def test_a_worker_says_that_it_leaves_a_last_single_sample_out(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path
) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    example = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    plan = training_plan(model, nn.functional.cross_entropy, example=example)
    (tmp_path / "plan.pb").write_bytes(plan.serialize())
    (tmp_path / "model.pb").write_bytes(SyftModel(model_parameters(model)).serialize())
    hosted = fedplan(
        "host", "--url", grid_url, "--model", tmp_path / "model.pb", "--variant", "none",
        "--plan", f"training_plan={tmp_path / 'plan.pb'}", *write_configs(tmp_path, "norm", max_diffs=1),
    )  # fmt: skip
    assert hosted.exit_code == 0, hosted.output
    with np.load(project["data.npz"]) as arrays:
        np.savez(tmp_path / "data.npz", x=arrays["x"][:17], y=arrays["y"][:17])  # two batches of 8, and one
    where = ("--url", grid_url, "--model", "norm", "--version", "1.0")
    with fedplan_process("worker", *where, "--data", tmp_path / "data.npz", "--cycles", 1) as worker:
        output, errors = worker.communicate(timeout=60)
    assert worker.returncode == 0, errors
    assert output.startswith("1 cycle, loss ")
    assert "the last of 17 samples would be a batch of its own and is left out" in errors


def test_a_model_is_not_hosted_without_what_its_plan_takes(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path
) -> None:
    options = write_configs(tmp_path, "lacking")
    (tmp_path / "client.json").write_text(json.dumps({"name": "lacking", "version": "1.0", "batch_size": 8}))
    hosting = (
        "host", "--url", grid_url, "--model", project["model.pb"],
        "--plan", f"training_plan={project['plan.pb']}", *options,
    )  # fmt: skip
    result = fedplan(*hosting)
    assert result.exit_code == 1
    assert "the Plan 'training_plan' needs 'lr', which is not there" in result.stderr
    write_configs(tmp_path, "lacking")
    assert fedplan(*hosting).exit_code == 0
