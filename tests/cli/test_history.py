"""`fedplan history`: numbers that are those of the grid, as a table, plots, JSON and CSV."""

import csv
import io
import json

import pytest

from tests.cli.conftest import Invoke, Project


@pytest.fixture
def trained(fedplan: Invoke, grid_url: str, project: Project, host):
    """A model of two cycles."""
    host("told", max_diffs=1, num_cycles=2)
    where = ("--url", grid_url, "--model", "told", "--version", "1.0")
    result = fedplan("worker", *where, "--data", project["data.npz"], "--cycles", 2)
    assert result.exit_code == 0, result.output
    assert fedplan("status", *where, "--wait", "--finished", "--timeout", 60).exit_code == 0
    return where


def test_it_shows_each_cycle_and_each_metric(fedplan: Invoke, trained) -> None:
    shown = fedplan("history", *trained)
    assert shown.exit_code == 0, shown.output
    rows = json.loads(fedplan("history", *trained, "--json").stdout)
    assert [(row["cycle"], row["checkpoint"], row["reports"], row["phase"]) for row in rows] == [
        (1, 1, 1, "done"),
        (2, 2, 1, "done"),
    ]
    losses = [row["metrics"]["training_loss"]["value"] for row in rows]
    for loss in losses:
        assert f"{loss:.4g}" in shown.stdout
    plot = next(line for line in shown.stdout.splitlines() if line.startswith("training_loss"))
    assert f"{losses[0]:.4g} → {losses[1]:.4g}" in plot
    assert plot.split("  ")[1] == ("█▁" if losses[0] > losses[1] else "▁█")
    lines = list(csv.DictReader(io.StringIO(fedplan("history", *trained, "--csv").stdout)))
    assert [float(line["training_loss"]) for line in lines] == losses


def test_before_the_first_cycle_has_ended_it_says_so(fedplan: Invoke, grid_url: str, host) -> None:
    host("new", max_diffs=1)
    shown = fedplan("history", "--url", grid_url, "--model", "new", "--version", "1.0")
    assert shown.exit_code == 0
    assert "No cycle of this model has ended yet" in shown.stderr
    assert not shown.stdout


def test_two_forms_at_once_are_refused(fedplan: Invoke, grid_url: str) -> None:
    shown = fedplan("history", "--url", grid_url, "--model", "m", "--version", "1", "--json", "--csv")
    assert shown.exit_code == 2
