"""`fedplan evaluate`, and `fedplan retrieve --checkpoint best`, of a model that its workers measure."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from fedplan.plan import accuracy, evaluation_plan
from fedplan.wire import State
from tests.cli.conftest import Invoke, Project, fedplan_process, write_configs


@pytest.fixture
def where(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path, request: pytest.FixtureRequest
) -> tuple[object, ...]:
    """A model that was trained in two cycles, measured in both, and measured at the end."""
    plan = evaluation_plan(
        torch.nn.Linear(3, 2),
        torch.nn.functional.cross_entropy,
        example=(torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64)),
        metrics={"accuracy": accuracy},
    )
    (tmp_path / "evaluation.pb").write_bytes(plan.serialize())
    goal = {"metric": "loss", "mode": "max"}  # that is, the worst: it is not the newest
    hosted = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"],
        "--plan", f"training_plan={project['plan.pb']}",
        "--plan", f"evaluation_plan={tmp_path / 'evaluation.pb'}",
        *write_configs(tmp_path, request.node.name, max_diffs=1, num_cycles=2, best=goal),
    )  # fmt: skip
    assert hosted.exit_code == 0, hosted.output
    where = ("--url", grid_url, "--model", request.node.name, "--version", "1.0")
    worker = fedplan("worker", *where, "--data", project["data.npz"])
    assert worker.exit_code == 0, worker.output
    assert fedplan("status", *where, "--wait", "--evaluated", "--timeout", 60).exit_code == 0
    return where


def history(fedplan: Invoke, where: tuple[object, ...]) -> list[dict[str, object]]:
    return json.loads(fedplan("history", *where, "--json").stdout)


def cycle_of(fedplan: Invoke, where: tuple[object, ...]) -> int:
    _, url, _, name, *_ = where
    (model,) = json.loads(fedplan("status", "--url", url, "--name", name, "--json").stdout)["models"]
    return int(model["cycle"]["number"])


def test_it_waits_for_what_workers_measure_and_prints_it(
    fedplan: Invoke, where: tuple[object, ...], project: Project
) -> None:
    with fedplan_process("evaluate", *where, "--wait", "--timeout", 60, "--json") as evaluating:
        while cycle_of(fedplan, where) < 4:  # in which it is measured
            assert evaluating.poll() is None, evaluating.stderr.read()
            time.sleep(0.1)
        worker = fedplan("worker", *where, "--data", project["data.npz"])
        assert (worker.exit_code, worker.stdout) == (0, "0 cycles, 1 evaluation\n"), worker.output
        output, errors = evaluating.communicate(timeout=60)
    assert evaluating.returncode == 0, errors
    told = json.loads(output)
    row = history(fedplan, where)[-1]
    assert (told["cycle"], told["task"], told["checkpoint"], told["reports"]) == (4, "evaluation", 3, 1)
    assert told["metrics"] == row["metrics"]
    assert set(told["metrics"]) == {"loss", "accuracy"}


def test_a_time_to_wait_needs_a_wait(fedplan: Invoke) -> None:
    result = fedplan(
        "evaluate", "--url", "http://127.0.0.1:1", "--model", "m", "--version", "1", "--timeout", 5
    )
    assert result.exit_code == 2
    assert "add --wait" in result.stderr


def test_the_best_checkpoint_is_retrieved(fedplan: Invoke, where: tuple[object, ...], tmp_path: Path) -> None:
    losses = {row["checkpoint"]: row["metrics"]["loss"]["value"] for row in history(fedplan, where)}
    assert max(losses, key=losses.__getitem__) == 1
    for checkpoint in ("best", "1"):
        result = fedplan("retrieve", *where, "--checkpoint", checkpoint, "--out", tmp_path / checkpoint)
        assert result.exit_code == 0, result.output
    best, first = (State.parse((tmp_path / name).read_bytes()).tensors for name in ("best", "1"))
    for one, other in zip(best, first, strict=True):
        np.testing.assert_array_equal(one.array, other.array)
