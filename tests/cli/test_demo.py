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
import torch

from fedplan.cli.demo import chart, digits, network
from fedplan.cli.demo.display import Display
from fedplan.cli.demo.federation import Moment
from fedplan.cli.demo.processes import ONE_THREAD, Processes
from fedplan.errors import FedplanError
from fedplan.plan import model_parameters
from fedplan.plan.variants.make import with_variants
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
    assert "1437 digits over 2 workers, which keep 360 others" in result.stderr
    assert "before the training: accuracy " in result.stderr
    assert "after cycle 1 of 1: accuracy " in result.stderr
    assert "\x1b" not in result.stderr  # plain lines where there is no terminal
    rows = [line.split() for line in result.stdout.splitlines() if line.strip()[:1].isdigit()]
    assert [row[0] for row in rows] == ["0", "1"]
    (first, same), (federated, central) = ([float(cell.rstrip("%")) for cell in row[1:]] for row in rows)
    assert first == same < 30  # what the workers measure together is what is measured in one place
    assert federated > 70
    assert central > 95
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert list(tmp_path.glob("fedplan-demo-*")) == []


def test_ctrl_c_leaves_no_process_behind(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "fedplan", "demo", "--out", tmp_path / "picture.png"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT | {"TMPDIR": str(tmp_path)},
        start_new_session=True,  # a group of its own, as a terminal makes one
    ) as demo:
        assert "a grid and 8 workers" in demo.stderr.readline()
        assert "digits over 8 workers, which" in demo.stderr.readline()
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


# What is shown


def moment(cycle: int, reports: int, *accuracies: float) -> Moment:
    return Moment(cycle, reports, accuracies, f"cycle {cycle} needs more")


def test_who_waits_long_is_told_for_what(capsys: pytest.CaptureFixture[str]) -> None:
    now = [0.0]
    with Display(workers=2, cycles=3, clock=lambda: now[0]) as display:
        for now[0] in (1.0, 15.0, 21.0):
            display.show(moment(1, 1, 0.1))
        assert "waiting" not in capsys.readouterr().err
        for now[0] in (22.0, 30.0, 43.0):
            display.show(moment(1, 1, 0.1))
        assert capsys.readouterr().err == "waiting: cycle 1 needs more\n" * 2
        display.show(moment(2, 0, 0.1, 0.8))
        assert "after cycle 1 of 3: accuracy 80.0%" in capsys.readouterr().err
        assert display.accuracies == [0.1, 0.8]


# Data and model


@pytest.mark.parametrize("iid", [True, False])
def test_every_sample_is_with_one_worker_who_keeps_a_fifth_of_its_own_for_evaluation(iid: bool) -> None:
    samples = digits.load()
    parts = digits.deal(samples, 8, iid=iid, seed=3)
    whole = [sample for part in parts for sample in (part.training, part.evaluation)]
    assert sum(map(len, whole)) == len(samples) == 1797
    assert sorted(map(tuple, np.concatenate([part.images for part in whole]))) == sorted(
        map(tuple, samples.images)
    )
    for part in parts:
        assert len(part.evaluation) == pytest.approx(len(part.training) / 4, abs=1)
        kinds = len(np.unique(part.training.digits))
        assert kinds == 10 if iid else kinds <= 4


def test_the_first_model_depends_on_the_seed_alone() -> None:
    models = [network.initial_model(seed) for seed in (0, 0, 1)]
    one, same, other = (torch.cat([p.flatten() for p in model.parameters()]) for model in models)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)


def test_the_plans_are_for_all_clients_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    model = network.initial_model(0)
    plan = network.make_plans(model, digits.load())[network.TRAINING_PLAN]
    with caplog.at_level("WARNING"):
        assert with_variants(plan, model_parameters(model)).variants.names() == ["torchscript", "tfjs"]
    assert caplog.text == ""


def test_the_central_training_has_a_figure_for_each_cycle_and_learns() -> None:
    (part,) = digits.deal(digits.load(), 1, iid=True, seed=0)
    model = network.initial_model(0)
    plan = network.make_plans(model, part.training)[network.TRAINING_PLAN]
    accuracies = network.train_centrally(plan, model, part.training, 2, part.evaluation)
    assert len(accuracies) == 3
    assert accuracies[0] < 0.3
    assert accuracies[-1] > 0.95
    assert accuracies[-1] == network.accuracy_on(part.evaluation, model)


def test_the_picture_is_a_png() -> None:
    parts = digits.deal(digits.load(), 3, iid=False, seed=0)
    assert chart.draw([0.1, 0.5], [0.1, 0.9], [part.training for part in parts]).startswith(b"\x89PNG")
