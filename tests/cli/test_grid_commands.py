"""`fedplan serve`, `host`, `status`, `worker` and `retrieve`, against a real grid in a process of its own."""

import contextlib
import json
import re
import signal
import socket
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
import torch

from fedplan.plan import trace
from fedplan.wire import State
from tests.cli.conftest import Invoke, Project, fedplan_process, write_configs


def status_of(fedplan: Invoke, grid_url: str, name: str) -> dict[str, object]:
    result = fedplan("status", "--url", grid_url, "--name", name, "--json")
    assert result.exit_code == 0, result.output
    (model,) = json.loads(result.stdout)["models"]
    return model


def until_a_worker_asks_again(grid_url: str) -> None:
    """Waits for one more request for a place in a cycle."""

    def asked() -> float:
        text = httpx.get(f"{grid_url}/metrics").text
        return sum(
            float(count)
            for count in re.findall(r'requests_total{call="model-centric/cycle-request".*} (.*)', text)
        )

    before = asked()
    while asked() == before:
        time.sleep(0.05)


# The whole way


def test_a_model_is_hosted_trained_and_retrieved(
    fedplan: Invoke, grid_url: str, project: Project, host, tmp_path: Path
) -> None:
    host("whole", max_diffs=1, num_cycles=2)
    where = ("--url", grid_url, "--model", "whole", "--version", "1.0")
    training = fedplan("worker", *where, "--data", project["data.npz"], "--json")
    assert training.exit_code == 0, training.output
    result = json.loads(training.stdout)
    assert (result["cycles"], result["refused"]) == (2, 0)
    assert result["loss"] > 0
    assert 0 <= result["metrics"]["accuracy"] <= 1
    assert fedplan("status", *where, "--wait", "--finished", "--timeout", 60).exit_code == 0

    fetched = fedplan("retrieve", *where, "--out", tmp_path / "latest.pb")
    assert fetched.exit_code == 0, fetched.output
    fedplan("retrieve", *where, "--checkpoint", 1, "--out", tmp_path / "first.pb")
    first, latest = (State.parse((tmp_path / f"{name}.pb").read_bytes()) for name in ("first", "latest"))
    hosted = State.parse(project["model.pb"].read_bytes())
    for a, b, c in zip(hosted.tensors, first.tensors, latest.tensors, strict=True):
        np.testing.assert_array_equal(a.array, b.array)
        assert not np.array_equal(b.array, c.array)


def test_each_worker_has_one_place_in_a_cycle_whoever_comes_first(
    fedplan: Invoke, grid_url: str, project: Project, host
) -> None:
    host("sockets", max_workers=2, max_diffs=2, num_cycles=2)
    where = ("--url", grid_url.replace("http", "ws"), "--model", "sockets", "--version", "1.0")
    data = ("--data", project["data.npz"])
    with contextlib.ExitStack() as stack:
        first = stack.enter_context(fedplan_process("worker", *where, *data, "--seed", 1))
        while status_of(fedplan, grid_url, "sockets")["cycle"]["reported"] == 0:
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.1)
        until_a_worker_asks_again(grid_url)  # and is told to wait for the others
        cycle = status_of(fedplan, grid_url, "sockets")["cycle"]
        assert (cycle["number"], cycle["accepted"], cycle["reported"]) == (1, 1, 1)
        second = stack.enter_context(fedplan_process("worker", *where, *data, "--seed", 2))
        for worker in (first, second):
            output, errors = worker.communicate(timeout=60)
            assert worker.returncode == 0, errors
            assert output.startswith("2 cycles, loss ")
            assert errors == ""
    assert [c["number"] for c in status_of(fedplan, grid_url, "sockets")["checkpoints"]] == [3, 2, 1]


def test_a_worker_outlasts_a_grid_that_is_killed_and_started_again(
    fedplan: Invoke, project: Project, tmp_path: Path
) -> None:
    serve = ("serve", "--data", tmp_path / "grid", "--port")
    with contextlib.ExitStack() as stack:
        grid = stack.enter_context(fedplan_process(*serve, 0))
        url = grid.stdout.readline().strip()
        where = ("--url", url.replace("http", "ws"), "--model", "lasting", "--version", "1.0")
        configs = write_configs(tmp_path, "lasting", max_workers=2, max_diffs=2, num_cycles=2)
        hosted = fedplan(
            "host", "--url", url, "--model", project["model.pb"], "--plan",
            f"training_plan={project['plan.pb']}", *configs,
        )  # fmt: skip
        assert hosted.exit_code == 0, hosted.output
        data = ("--data", project["data.npz"])
        first = stack.enter_context(fedplan_process("worker", *where, *data, "--json"))
        while status_of(fedplan, url, "lasting")["cycle"]["reported"] == 0:
            assert first.poll() is None, first.stderr.read()
            time.sleep(0.1)
        until_a_worker_asks_again(url)
        grid.kill()
        while "asking again in" not in (
            line := first.stderr.readline()
        ):  # the repetitions of one call failed
            assert line
        again = stack.enter_context(fedplan_process(*serve, url.rpartition(":")[2]))
        assert again.stdout.readline().strip() == url
        second = stack.enter_context(fedplan_process("worker", *where, *data, "--json"))
        for worker in (first, second):
            output, errors = worker.communicate(timeout=60)
            assert worker.returncode == 0, errors
            assert json.loads(output)["cycles"] == 2


def test_a_worker_trains_as_many_cycles_and_batches_as_it_was_told(
    fedplan: Invoke, grid_url: str, project: Project, host
) -> None:
    host("endless", max_diffs=1)
    where = ("--url", grid_url, "--model", "endless", "--version", "1.0", "--data", project["data.npz"])
    assert fedplan("worker", *where, "--cycles", 1, "--batches", 1).stdout.startswith("1 cycle, loss ")
    model = status_of(fedplan, grid_url, "endless")
    assert model["cycle"]["number"] in (1, 2)  # the average may not be made yet
    assert "num_cycles" not in model


def test_an_averaging_plan_is_hosted_too(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path
) -> None:
    result = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"], "--plan", f"p={project['plan.pb']}",
        "--averaging-plan", project["plan.pb"], *write_configs(tmp_path, "averaged"),
    )  # fmt: skip
    assert result.exit_code == 1  # a training Plan averages nothing: it has arrived, and was refused
    assert "averaging Plan cannot be hosted" in result.stderr


# Status


def test_status_is_a_table(fedplan: Invoke, grid_url: str, host) -> None:
    host("shown", min_diffs=3, max_diffs=5, cycle_length=3600, num_cycles=9)
    result = fedplan("status", "--url", grid_url)
    assert result.exit_code == 0
    row = next(line for line in result.stdout.splitlines() if "shown" in line)
    for cell in ("1.0", "training", "1 of 9", "0, needs 3", "with report 5 or at "):
        assert cell in row


def plans_of(fedplan: Invoke, grid_url: str, name: str) -> tuple[list[str], str]:
    """The cells of the only Plan's row in the table of Plans, and all that is printed."""
    result = fedplan("status", "--url", grid_url, "--name", name)
    assert result.stderr == ""
    lines = [line.split() for line in result.stdout.splitlines()]
    at = lines.index(["model", "version", "plan", "list", "torchscript", "tfjs"])
    return lines[at + 2], result.stdout


def test_status_shows_how_near_each_variant_comes(fedplan: Invoke, grid_url: str, host) -> None:
    host("listed", cycle_length=3600)
    (model, version, plan, listed, *errors), _ = plans_of(fedplan, grid_url, "listed")
    assert (model, version, plan, listed) == ("listed", "1.0", "training_plan", "yes")
    assert all(error.startswith("±") and float(error[1:]) < 1e-5 for error in errors)
    assert len(errors) == 2


def test_status_shows_who_cannot_run_a_plan(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path
) -> None:
    (tmp_path / "plan.pb").write_bytes(trace(lambda x: x & 3, torch.zeros(4, 3).int()).serialize())
    hosting = (
        "host", "--url", grid_url, "--model", project["model.pb"], "--plan", f"masks={tmp_path / 'plan.pb'}",
        *write_configs(tmp_path, "masked"),
    )  # fmt: skip
    refused = fedplan(*hosting, "--variant", "tfjs")
    assert refused.exit_code == 1
    assert "'aten.bitwise_and" in refused.stderr
    assert "cannot be said in tfjs" in refused.stderr
    assert fedplan(*hosting).exit_code == 0
    row, below = plans_of(fedplan, grid_url, "masked")
    assert row[-1] == "–"
    assert (
        "masked 1.0: no syft.js: the Plan 'masks' is not hosted as tfjs: the operation 'aten.bitwise_and"
        in below
    )


def test_status_says_once_what_holds_for_several_models(fedplan: Invoke, grid_url: str, host) -> None:
    host("twin-a", cycle_length=3600)
    host("twin-b", cycle_length=3600)
    lines = fedplan("status", "--url", grid_url).stdout.splitlines()
    (named,) = (
        line for line in lines if line.endswith("no KotlinSyft: the client_config has no max_updates")
    )
    assert "twin-a 1.0, twin-b 1.0" in named


def test_an_unknown_variant_is_refused(fedplan: Invoke, project: Project, tmp_path: Path) -> None:
    result = fedplan(
        "host", "--url", "http://127.0.0.1:1", "--model", project["model.pb"],
        "--plan", f"p={project['plan.pb']}", "--variant", "onnx", *write_configs(tmp_path, "x"),
    )  # fmt: skip
    assert result.exit_code == 2
    assert "'onnx' is none of torchscript, tfjs, none" in result.stderr


def test_the_url_can_come_from_the_environment(
    fedplan: Invoke, grid_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPLAN_URL", grid_url)
    assert fedplan("status").exit_code == 0


# Errors


def test_what_the_grid_refuses_is_shown_in_its_own_words(
    fedplan: Invoke, grid_url: str, project: Project, host, tmp_path: Path
) -> None:
    host("taken", max_diffs=1)
    again = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"],
        "--plan", f"training_plan={project['plan.pb']}", *write_configs(tmp_path, "taken", max_diffs=1),
    )  # fmt: skip
    assert again.exit_code == 1
    assert "taken" in again.stderr
    missing = fedplan(
        "retrieve", "--url", grid_url, "--model", "nobody", "--version", "1", "--out", tmp_path / "m.pb"
    )
    assert missing.exit_code == 1
    assert "hosts no model" in missing.stderr
    assert not (tmp_path / "m.pb").exists()


def test_a_wrong_config_is_refused_with_its_keys(
    fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path
) -> None:
    result = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"],
        "--plan", f"training_plan={project['plan.pb']}", *write_configs(tmp_path, "wrong", min_dffs=1),
    )  # fmt: skip
    assert result.exit_code == 1
    assert "'min_dffs' is not a key of it" in result.stderr


@pytest.mark.parametrize("plan", ["plan.pb", "=plan.pb", "training_plan=", "training_plan=nothing.pb"])
def test_a_plan_that_is_not_named_or_not_there_is_wrong_usage(
    fedplan: Invoke, project: Project, tmp_path: Path, plan: str
) -> None:
    result = fedplan(
        "host", "--url", "http://127.0.0.1:1", "--model", project["model.pb"], "--plan", plan,
        *write_configs(tmp_path, "m"),
    )  # fmt: skip
    assert result.exit_code == 2
    assert "--plan" in result.stderr


def test_a_grid_that_is_not_there_is_one_line(fedplan: Invoke) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    result = fedplan("status", "--url", f"http://127.0.0.1:{port}")
    assert result.exit_code == 1
    assert "could not be reached" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_worker_insists_on_encryption_to_other_machines(fedplan: Invoke, project: Project) -> None:
    result = fedplan(
        "worker",
        "--url",
        "ws://grid.example",
        "--model",
        "m",
        "--version",
        "1",
        "--data",
        project["data.npz"],
    )
    assert result.exit_code == 1
    assert "not encrypted" in result.stderr


# Serve


def test_serve_prints_its_url_and_how_to_stop_it_and_stops(fedplan: Invoke, tmp_path: Path) -> None:
    data = tmp_path / "data"
    arguments = ("serve", "--port", 0, "--host", "0.0.0.0", "--insecure")
    with fedplan_process(*arguments, FEDPLAN_DATA_DIR=str(data)) as process:
        url = process.stdout.readline().strip()
        assert url.startswith("http://127.0.0.1:")
        empty = fedplan("status", "--url", url)
        assert (empty.exit_code, empty.stdout) == (0, "")
        assert "hosts no model yet" in empty.stderr
        assert json.loads(fedplan("status", "--url", url, "--json").stdout) == {"models": []}
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=20)
    assert process.returncode == 0
    assert output == ""
    assert f"Its data is in {data}. Ctrl-C stops it." in errors
    assert "Set FEDPLAN_OWNER_TOKEN" in errors  # it listens to others than this machine
    assert "Traceback" not in errors
    assert (data / "grid.db").exists()


def test_a_wrong_setting_is_named_as_the_environment_variable(
    fedplan: Invoke, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FEDPLAN_RETRY_SECONDS", "soon")
    result = fedplan("serve", "--port", 0)
    assert result.exit_code == 2
    assert result.stderr.startswith("fedplan: FEDPLAN_RETRY_SECONDS: ")
    assert "soon" not in result.stderr


def test_a_port_in_use_is_one_line(fedplan: Invoke, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        result = fedplan("serve", "--port", listener.getsockname()[1], "--data", tmp_path)
    assert result.exit_code == 1
    assert "in use" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def in_a_file(folder: Path) -> Path:
    (folder / "file").write_text("no folder")
    return folder / "file" / "data"


def without_a_database(folder: Path) -> Path:
    (folder / "grid.db").write_text("a text, where SQLite looks for its header, and finds none")
    return folder


def with_a_folder_of_its_name(folder: Path) -> Path:
    (folder / "grid.db").mkdir()
    return folder


@pytest.mark.some(3)
@pytest.mark.parametrize(
    ("made", "what", "why"),
    [
        (in_a_file, "blobs", "Not a directory"),
        (without_a_database, "grid.db", "file is not a database"),
        (with_a_folder_of_its_name, "grid.db", "unable to open database file"),
    ],
)
def test_a_store_that_cannot_be_opened_is_one_line(tmp_path: Path, made, what: str, why: str) -> None:
    data = made(tmp_path)
    with fedplan_process("serve", "--port", 0, "--data", data) as process:
        output, errors = process.communicate(timeout=20)
    assert (process.returncode, output) == (1, "")
    (line,) = errors.splitlines()
    assert line.startswith(f"fedplan: '{data / what}' cannot be opened: ")
    assert why in line
    assert line.endswith("choose another place with FEDPLAN_DATA_DIR (--data).")


def test_a_database_url_that_cannot_be_used_is_named_by_its_variable(tmp_path: Path) -> None:
    wrong = {"FEDPLAN_DATABASE_URL": "s3cret"}
    with fedplan_process("serve", "--port", 0, "--data", tmp_path, **wrong) as process:
        errors = process.communicate(timeout=20)[1]
    assert errors.startswith("fedplan: what FEDPLAN_DATABASE_URL names cannot be opened: ")
    assert len(errors.splitlines()) == 1
    assert "s3cret" not in errors


def test_an_owner_token_is_needed_where_the_grid_has_one(fedplan: Invoke, tmp_path: Path) -> None:
    arguments = ("serve", "--port", 0, "--data", tmp_path)
    with fedplan_process(*arguments, FEDPLAN_OWNER_TOKEN="s3cret") as process:
        url = process.stdout.readline().strip()
        assert fedplan("status", "--url", url).exit_code == 1
        assert fedplan("status", "--url", url, "--token", "s3cret").exit_code == 0
        process.terminate()
        assert "s3cret" not in process.communicate(timeout=20)[1]
