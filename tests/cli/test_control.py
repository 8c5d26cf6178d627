"""`fedplan model` and `fedplan checkpoint`, at a grid in a process of its own."""

import json

import pytest

from tests.cli.conftest import Invoke, Project


@pytest.fixture
def model(host, request: pytest.FixtureRequest) -> str:
    """A model of its own, whose two cycles have one report each."""
    host(request.node.name, max_diffs=1, num_cycles=2)
    return str(request.node.name)


@pytest.fixture
def run(fedplan: Invoke, grid_url: str, model: str):
    """Runs `fedplan COMMAND NAME VERSION …` and returns what it says to people."""

    def run(command: str, *arguments: object, code: int = 0) -> str:
        result = fedplan(*command.split(), model, "1.0", *arguments, "--url", grid_url)
        assert result.exit_code == code, result.output
        return result.stdout + result.stderr

    return run


def train(fedplan: Invoke, grid_url: str, model: str, project: Project) -> None:
    where = ("--url", grid_url, "--model", model, "--version", "1.0")
    assert fedplan("worker", *where, "--data", project["data.npz"]).exit_code == 0
    assert fedplan("status", *where, "--wait", "--finished", "--timeout", 30).exit_code == 0


def test_it_is_paused_and_resumed(fedplan: Invoke, grid_url: str, model: str, run) -> None:
    assert run("model pause") == f"{model} 1.0 is paused. `fedplan model resume` lets workers join again.\n"
    listed = fedplan("model", "list", "--url", grid_url)
    (row,) = [line for line in listed.stdout.splitlines() if line.startswith(model)][:1]
    assert "paused" in row
    assert run("model resume") == f"{model} 1.0 takes workers.\n"
    (told,) = [
        one
        for one in json.loads(fedplan("model", "list", "--json", "--url", grid_url).stdout)["models"]
        if one["name"] == model
    ]
    assert "paused" not in told


def test_it_is_stopped_and_extended(model: str, run) -> None:
    why = "the training was stopped when the cycle had 0 of 1 reports"
    assert run("model stop") == f"The training of {model} 1.0 ends with cycle 1, which is dropped: {why}.\n"
    assert run("model extend", "--cycles", 2) == f"{model} 1.0: has 3 cycles.\n"
    assert "say how much" in run("model extend", code=2)
    assert "no time closes cycle 2" in run("model extend", "--seconds", 5, code=1)


def test_an_open_cycle_has_more_time(fedplan: Invoke, grid_url: str, host) -> None:
    host("timed", cycle_length=1000, num_cycles=1)
    result = fedplan("model", "extend", "timed", "1.0", "--seconds", 60, "--url", grid_url)
    assert result.exit_code == 0
    assert result.stderr.startswith("timed 1.0: has 1 cycle, and the open one closes by 2")


def test_its_configurations_are_changed(model: str, run) -> None:
    assert run(
        "model set", "--server", "max_diffs=2", "--server", "num_cycles=null", "--client", "lr=0.1"
    ) == (f"From cycle 2 on, {model} 1.0 runs with that.\n")
    assert "trained without end" in run("model extend", "--cycles", 1, code=1)
    assert run("model set", "--server", "pool_selection=iterate")
    assert "'strategy' cannot be changed" in run("model set", "--server", "strategy=fedavgm", code=1)
    assert "KEY=VALUE is needed" in run("model set", "--server", "max_diffs", code=2)
    assert "'lr' is given twice" in run("model set", "--client", "lr=1", "--client", "lr=2", code=2)


def test_it_is_deleted_when_that_is_meant(fedplan: Invoke, grid_url: str, model: str, run) -> None:
    asked = fedplan("model", "delete", model, "1.0", "--url", grid_url)  # nobody answers
    assert asked.exit_code == 1
    assert f"Delete {model} 1.0 with all its checkpoints?" in asked.stderr
    assert "would be lost" in run("model delete", "--yes", code=1)
    assert run("model delete", "--yes", "--force") == f"{model} 1.0 is deleted.\n"
    assert "hosts no model" in run("model delete", "--yes", code=1)


def test_it_goes_back_to_an_older_checkpoint(
    fedplan: Invoke, grid_url: str, model: str, run, project: Project
) -> None:
    train(fedplan, grid_url, model, project)
    assert run("checkpoint promote", 2) == "Checkpoint 4, a copy of 2, is the newest.\n"
    assert run("checkpoint rollback", 1) == "Checkpoint 5, a copy of 1, is the newest.\n"
    rows = [line.split() for line in run("checkpoint list").splitlines()[2:]]
    assert [(row[0], row[3:]) for row in rows if row and row[0].isdigit()] == [
        ("5", ["copy", "of", "1", "latest"]),
        ("4", ["copy", "of", "2", "dropped"]),
        ("3", ["cycle", "2", "dropped"]),
        ("2", ["cycle", "1", "dropped"]),
        ("1", ["hosting"]),
    ]
    assert [row["number"] for row in json.loads(run("checkpoint list", "--json"))] == [5, 4, 3, 2, 1]
    assert "was dropped" in run("checkpoint rollback", 3, code=1)
    run("model extend", "--cycles", 2)
    promoted = "Checkpoint 6, a copy of 3, is the newest; cycle 4 starts from it.\n"
    assert run("checkpoint promote", 3) == promoted
