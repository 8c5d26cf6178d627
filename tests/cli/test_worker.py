"""Options of `fedplan worker`, against a real grid in a process of its own."""

import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fedplan.cli.worker import _in_words, summary
from fedplan.client import DpSgdSteps, ExamplePrivacy, Participation, SyftModel
from fedplan.plan import evaluation_plan, training_plan
from tests.cli.conftest import ENVIRONMENT, Invoke, Project, write_configs
from tests.plan.fixtures import FOLDER, needs_fixtures, state


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


def test_another_machine_is_reached_in_plain_text_only_where_that_is_allowed(
    fedplan: Invoke, grid_url: str, personal: tuple[object, ...]
) -> None:
    elsewhere = grid_url.replace("127.0.0.1", "0.0.0.0")  # leads here, but is no name of this machine
    worker = ("worker", "--url", elsewhere, *personal[2:], "--cycles", 1)
    refused = fedplan(*worker)
    assert refused.exit_code == 1
    assert "--allow-plain-text" in refused.stderr.replace("\n", " ")
    taken = fedplan(*worker, "--allow-plain-text")
    assert taken.exit_code == 0, taken.output
    assert "1 cycle," in taken.stdout


# --policy


def test_a_policy_is_held_against_the_plan_before_it_runs(
    fedplan: Invoke, grid_url: str, personal: tuple[object, ...], tmp_path: Path
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('max_memory = "100 B"\noutputs = "parameters"\n')
    refused = fedplan("worker", *personal, "--cycles", 1, "--policy", policy)
    assert refused.exit_code == 1
    told = refused.stderr.replace("\n", " ")
    assert "did not accept cycle 1" in told
    assert "would report loss, which the policy's outputs do not name" in told
    assert "100 are allowed" in told
    status = fedplan("status", "--url", grid_url, "--model", personal[3], "--json")
    assert json.loads(status.stdout)["models"][0]["cycle"]["accepted"] == 0
    policy.write_text('outputs = "loss, parameters"\n')
    assert fedplan("worker", *personal, "--cycles", 1, "--policy", policy).exit_code == 0


def test_a_misspelt_key_of_a_policy_is_an_error_of_one_line(
    fedplan: Invoke, personal: tuple[object, ...], tmp_path: Path
) -> None:
    (tmp_path / "policy.toml").write_text("allow_op = []")
    result = fedplan("worker", *personal, "--policy", tmp_path / "policy.toml")
    assert result.exit_code == 1
    assert "'allow_op' is no key of a policy; did you mean 'allow_ops'?" in result.stderr


# what it prints


def undefined(output: torch.Tensor, _target: torch.Tensor) -> torch.Tensor:
    return output.sum() * float("nan")


@pytest.fixture
def measured(fedplan: Invoke, grid_url: str, project: Project, tmp_path: Path) -> tuple[object, ...]:
    """How a worker names a model of three cycles, the last of them the longest, that is also measured."""
    example = (torch.zeros(4, 3), torch.zeros(4, dtype=torch.int64))
    net, loss = nn.Linear(3, 2), nn.functional.cross_entropy
    training = training_plan(net, loss, example=example, metrics={"undefined": undefined})
    (tmp_path / "t.pb").write_bytes(training.serialize())
    (tmp_path / "e.pb").write_bytes(evaluation_plan(net, loss, example=example).serialize())
    name = f"measured {tmp_path.name}"
    configs = write_configs(tmp_path, name, max_diffs=1, num_cycles=3)
    client = tmp_path / "client.json"
    epochs = {"schedule": "values", "values": [1, 1, 4]}
    client.write_text(json.dumps({**json.loads(client.read_text()), "max_epochs": epochs}))
    result = fedplan(
        "host", "--url", grid_url, "--model", project["model.pb"], "--plan",
        f"training_plan={tmp_path / 't.pb'}", "--plan", f"evaluation_plan={tmp_path / 'e.pb'}", *configs,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return ("--url", grid_url, "--model", name, "--version", "1.0")


def test_a_worker_tells_of_its_last_cycle_and_of_what_it_only_measured(
    fedplan: Invoke, project: Project, measured: tuple[object, ...]
) -> None:
    worker = ("worker", *measured, "--data", project["data.npz"])
    trained = fedplan(*worker, "--cycles", 3, "--json")
    assert trained.exit_code == 0, trained.output
    done = json.loads(trained.stdout)
    while len(rows := json.loads(fedplan("history", *measured, "--json").stdout)) < 3:
        time.sleep(0.1)  # the last cycle is closing
    last = rows[2]
    assert done.pop("loss") == pytest.approx(last["metrics"]["training_loss"]["value"])
    assert done == {"cycles": 3, "evaluations": 0, "refused": 0, "metrics": {"undefined": None}}
    only = fedplan(*worker)
    assert (only.exit_code, only.stdout) == (0, "0 cycles, 1 evaluation\n"), only.output


# --review

QUESTION = b"Run 'training_plan' on your data, and report what it changed? [y/N]:"


def reviewed(personal: tuple[object, ...], answer: bytes | None) -> tuple[int, str, str]:
    """Exit code, stdout and what a terminal shows of a worker whose Plan a person reviews; None is Ctrl-C."""
    terminal, end = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-m", "fedplan", "worker", *map(str, personal), "--cycles", "2", "--review"],
        stdin=end, stdout=subprocess.PIPE, stderr=end, text=True, env=ENVIRONMENT,
    ) as process:  # fmt: skip
        os.close(end)
        shown = b""
        while QUESTION not in shown:
            shown += read(terminal)
        if answer is None:
            process.send_signal(signal.SIGINT)
        else:
            os.write(terminal, answer)
        while more := read(terminal):
            shown += more
        output, _ = process.communicate(timeout=60)
    os.close(terminal)
    return process.returncode, output, shown.decode()


def read(terminal: int) -> bytes:
    """What a terminal shows next; nothing when nobody has it open any more."""
    ready, _, _ = select.select([terminal], [], [], 60)
    assert ready, "nothing more is shown"
    try:
        return os.read(terminal, 4096)
    except OSError:  # how a terminal ends on Linux
        return b""


def accepted(fedplan: Invoke, grid_url: str, personal: tuple[object, ...]) -> int:
    """How many workers are in the model's cycle."""
    status = fedplan("status", "--url", grid_url, "--model", personal[3], "--json")
    return json.loads(status.stdout)["models"][0]["cycle"]["accepted"]


def test_a_person_who_reviews_the_plan_sees_all_of_it_once_and_lets_it_run(
    grid_url: str, personal: tuple[object, ...], fedplan: Invoke, tmp_path: Path
) -> None:
    code, output, shown = reviewed(personal, b"y\n")
    assert code == 0, shown
    assert output.startswith("2 cycles")
    assert shown.count(QUESTION.decode()) == 1
    listing = fedplan("plan", "show", tmp_path / "plan.pb", "--batch", 8).stdout
    operations = listing[listing.index("operations\n") : listing.index("One run")].split()
    assert len(operations) > 20
    assert set(operations) <= set(shown.split())


def test_a_person_who_says_no_trains_nothing_and_the_place_is_free(
    grid_url: str, personal: tuple[object, ...], fedplan: Invoke
) -> None:
    for answer, ends, why in ((b"n\n", 1, "said no"), (b"\n", 1, "said no"), (None, 130, "")):
        code, output, shown = reviewed(personal, answer)
        assert (code, output) == (ends, "")
        assert why in shown
        assert accepted(fedplan, grid_url, personal) == 0


def test_without_a_terminal_there_is_nobody_to_ask(
    grid_url: str, personal: tuple[object, ...], fedplan: Invoke
) -> None:
    result = fedplan("worker", *personal, "--review")
    assert result.exit_code == 1
    assert "no terminal" in result.stderr
    assert "participate(accept=…)" in result.stderr
    assert accepted(fedplan, grid_url, personal) == 0


# Plans that PySyft made


@pytest.fixture
def pysyft(fedplan: Invoke, grid_url: str, tmp_path: Path) -> tuple[object, ...]:
    """How a worker names a linear regression of PySyft, and its data; the model waits for one report."""
    folder, name = FOLDER / "linreg_sgd", f"pysyft {tmp_path.name}"
    x, y, lr, size, *params = state(folder / "input.state.pb")
    (tmp_path / "model.pb").write_bytes(SyftModel(params).serialize())
    np.savez(tmp_path / "data.npz", x=x.numpy(), y=y.numpy())
    options = write_configs(tmp_path, name, max_diffs=1)
    config = {"name": name, "version": "1.0", "batch_size": int(size.item()), "lr": lr.item()}
    (tmp_path / "client.json").write_text(json.dumps(config))
    result = fedplan(
        "host", "--url", grid_url, "--model", tmp_path / "model.pb", "--plan",
        f"training_plan={folder / 'list.plan.pb'}", *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return ("--url", grid_url, "--model", name, "--version", "1.0", "--data", tmp_path / "data.npz")


@needs_fixtures
@pytest.mark.parametrize(
    "names", [(), ("--inputs", "data, target, lr, batch_size, params", "--outputs", "loss,params")]
)
def test_a_plan_of_pysyft_is_trained(
    fedplan: Invoke, pysyft: tuple[object, ...], names: tuple[str, ...]
) -> None:
    result = fedplan("worker", *pysyft, "--cycles", 1, *names, "--json")
    assert result.exit_code == 0, result.output
    loss = state(FOLDER / "linreg_sgd" / "expected_output.state.pb")[0].item()
    assert json.loads(result.stdout)["loss"] == pytest.approx(loss, rel=1e-5)


@needs_fixtures
def test_names_that_do_not_fit_are_an_error_of_one_line(fedplan: Invoke, pysyft: tuple[object, ...]) -> None:
    result = fedplan("worker", *pysyft, "--cycles", 1, "--inputs", "data,target,batch_size,lr,params")
    assert result.exit_code == 1
    assert "input 3 of the Plan 'linreg' is said to be the learning rate" in " ".join(result.stderr.split())


def test_a_worker_is_told_what_dp_sgd_has_spent(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = ExamplePrivacy.of([DpSgdSteps(1.0, 0.01, 1000)])
    done = Participation(cycles=2, losses=[0.5], example_privacy=spent)
    assert summary(done)["dp_sgd"] == [{"noise_multiplier": 1.0, "sampling_rate": 0.01, "steps": 1000}]
    assert _in_words(done).splitlines() == [
        "2 cycles, loss 0.5",
        "DP-SGD on your examples: 1000 steps with a noise multiplier of 1 and a sampling rate of 0.01",
        "each example: ε = 1.828 at δ = 1e-05, if the Plan does what it says",
    ]
    monkeypatch.setitem(sys.modules, "dp_accounting", None)
    assert "pip install 'fedplan[privacy]'" in _in_words(done)
    assert "dp_sgd" not in summary(Participation(cycles=1))
