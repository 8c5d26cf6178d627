"""`fedplan demo`, small, and its parts."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pytest

from fedplan.cli.demo import chart, digits, network
from fedplan.cli.demo.processes import ONE_THREAD, Processes
from fedplan.client import SyftModel
from fedplan.errors import FedplanError
from tests.cli.conftest import ENVIRONMENT, Invoke


def test_the_demo_ends_with_a_table_and_a_picture(
    fedplan: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (*ONE_THREAD.items(), ("FEDPLAN_DATABASE_URL", "that of another grid")):
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    picture = tmp_path / "picture.png"
    result = fedplan("demo", "--workers", 2, "--cycles", 1, "--out", picture)
    assert result.exit_code == 0, result.output
    assert "1437 digits over 2 workers" in result.stderr
    assert "cycle 1 of 1: test accuracy " in result.stderr
    assert "\x1b" not in result.stderr  # plain lines where there is no terminal
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["1"]
    federated, central = (float(rows[0][column].rstrip("%")) for column in (1, 2))
    assert federated > 70
    assert central > 95
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("fedplan-demo-*")) == []


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fedplan.cli", "demo", "--out", tmp_path / "picture.png"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        start_new_session=True,  # a group of its own, as a terminal makes one
    ) as demo:
        assert "a grid and 8 workers" in demo.stderr.readline()
        assert "digits over 8 workers" in demo.stderr.readline()
        os.killpg(demo.pid, signal.SIGINT)
        assert "Traceback" not in demo.communicate(timeout=30)[1]
    assert demo.returncode != 0
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.pid, 0)
    assert list(tmp_path.glob("fedplan-demo-*")) == []


def test_a_picture_that_could_not_be_written_stops_the_demo_at_once(fedplan: Invoke, tmp_path: Path) -> None:
    result = fedplan("demo", "--out", tmp_path / "nowhere" / "picture.png")
    assert result.exit_code == 2
    assert "there is no folder" in result.stderr


# Processes


def test_a_process_that_failed_is_reported_with_its_last_words(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        failing = processes.start("worker-7", "state", "show", __file__)
        with pytest.raises(
            FedplanError, match="the worker-7 ended with the exit code 1; its last words: fed"
        ):
            failing.wait(30)
        with pytest.raises(FedplanError, match="not a serialized State"):
            failing.first_line()


def test_a_process_that_ended_well_is_fine_unless_it_is_needed(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        brief = processes.start("brief", "--version")
        brief.wait(30)
        brief.check(alive=False)
        assert brief.first_line().startswith("fedplan ")
        with pytest.raises(FedplanError, match="the brief ended with the exit code 0; its last words: none"):
            brief.check(alive=True)


def test_processes_end_with_the_block_also_when_it_fails(tmp_path: Path) -> None:
    processes = Processes(tmp_path)
    grid = processes.start("grid", "serve", "--port", "0", "--data", str(tmp_path / "data"))
    with pytest.raises(ZeroDivisionError), processes:
        raise ZeroDivisionError
    with pytest.raises(FedplanError, match="the grid was ended by the signal 15"):
        grid.check(alive=True)


def test_a_process_that_will_not_stop_is_killed(tmp_path: Path) -> None:
    with Processes(tmp_path) as processes:
        grid = processes.start("grid", "serve", "--port", "0", "--data", str(tmp_path / "data"))
        grid.end(time.monotonic() - 1)
    with pytest.raises(FedplanError, match="signal 9"):
        grid.check(alive=True)


# Data and model


def test_the_test_set_is_always_the_same_and_has_every_digit() -> None:
    train, test = digits.load()
    again, _ = digits.load()
    assert (len(train), len(test)) == (1437, 360)
    np.testing.assert_array_equal(train.images, again.images)
    assert np.bincount(test.digits).min() >= 34


@pytest.mark.parametrize("iid", [True, False])
def test_every_sample_goes_to_one_worker(iid: bool) -> None:
    train, _ = digits.load()
    parts = digits.deal(train, 8, iid=iid, seed=3)
    assert sum(map(len, parts)) == len(train)
    kinds = [len(np.unique(part.digits)) for part in parts]
    assert min(kinds) == 10 if iid else max(kinds) <= 4


def test_the_first_model_depends_on_the_seed_alone() -> None:
    one, same, other = (network.initial_model(seed).serialize() for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_the_central_training_has_a_figure_for_each_cycle_and_learns() -> None:
    train, held_out = digits.load()
    model = network.initial_model(0)
    test = network.Test(model, held_out)
    accuracies = network.train_centrally(network.training_plan(model, train), model, train, 2, test)
    assert len(accuracies) == 2
    assert accuracies[-1] > 0.95
    assert test.accuracy(SyftModel.parse(model.serialize())) < 0.3


def test_the_picture_is_a_png() -> None:
    train, _ = digits.load()
    parts = digits.deal(train, 3, iid=False, seed=0)
    assert chart.draw([0.5], [0.9], parts).startswith(b"\x89PNG")
