"""`fedplan events` and `fedplan why`, against a real grid in a process of its own."""

import csv
import io
import json
import signal

import pytest

from tests.cli.conftest import Invoke, Project, fedplan_process


@pytest.fixture
def trained(fedplan: Invoke, grid_url: str, project: Project, host):
    """A model of one cycle; returns its name."""
    host("watched", max_diffs=1, num_cycles=1)
    where = ("--url", grid_url, "--model", "watched", "--version", "1.0")
    result = fedplan("worker", *where, "--data", project["data.npz"])
    assert result.exit_code == 0, result.output
    assert fedplan("status", *where, "--wait", "--finished", "--timeout", 60).exit_code == 0
    return "watched"


KINDS = ["hosted", "joined", "reported", "closed", "averaged"]


def test_they_are_printed_as_lines_json_and_csv(fedplan: Invoke, grid_url: str, trained: str) -> None:
    where = (grid_url, trained, "1.0")
    shown = fedplan("events", *where)
    assert shown.exit_code == 0, shown.output
    lines = [line for line in shown.stdout.splitlines() if "refused" not in line]
    assert [line.split()[2] for line in lines] == KINDS
    assert "watched 1.0 cycle 1  grid " in lines[-1]
    assert lines[-1].endswith(": checkpoint 2 was made of 1 report")
    told = [json.loads(line) for line in fedplan("events", *where, "--json").stdout.splitlines()]
    assert [row["kind"] for row in told if row["kind"] != "refused"] == KINDS
    rows = list(csv.DictReader(io.StringIO(fedplan("events", *where, "--csv").stdout)))
    assert [row["id"] for row in rows] == [row["id"] for row in told]
    assert [json.loads(row["details"]) for row in rows] == [row["details"] for row in told]
    last = fedplan("events", "--url", grid_url, trained, "--last", 1, "--json").stdout.splitlines()
    assert [json.loads(line)["id"] for line in last] == [told[-1]["id"]]


def test_they_are_followed_until_ctrl_c(grid_url: str, host) -> None:
    host("first", max_diffs=1)
    with fedplan_process("events", grid_url, "--follow", "--json", PYTHONUNBUFFERED="1") as process:
        while json.loads(process.stdout.readline())["model"] != "first":
            pass
        host("second", max_diffs=1)
        while (told := json.loads(process.stdout.readline()))["kind"] != "hosted":
            pass
        assert told["model"] == "second"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (0, "")


def test_why_says_what_a_model_waits_for(fedplan: Invoke, grid_url: str, host) -> None:
    host("waits", max_diffs=2)
    shown = fedplan("why", grid_url, "waits", "1.0")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.startswith("cycle 1 waits for 2 of 2 reports; 0 workers joined")
    of_worker = fedplan("why", "--url", grid_url, "waits", "1.0", "--worker", "w")
    assert "does it ask for this model and version?" in of_worker.stdout
    told = json.loads(fedplan("why", grid_url, "waits", "1.0", "--json").stdout)
    assert (told["lacking"], told["cycle"]["number"]) == (2, 1)


def test_the_grid_may_be_named_by_the_environment(
    fedplan: Invoke, grid_url: str, host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host("named", max_diffs=2)
    monkeypatch.setenv("FEDPLAN_URL", grid_url)
    assert fedplan("why", "named", "1.0").exit_code == 0
    assert fedplan("events", "named").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("why", "http://127.0.0.1:9"), "a model's name and its version are needed"),
        (("why", "http://127.0.0.1:9", "m"), "a model's name and its version are needed"),
        (("why", "http://127.0.0.1:9", "m", "1", "2"), "these are too many"),
        (("why", "m", "1"), "which grid?"),
        (("events", "http://127.0.0.1:9", "m", "1", "2"), "these are too many"),
        (("events",), "which grid?"),
        (("events", "http://127.0.0.1:9", "--json", "--csv"), "print one form, not two"),
        (("events", "http://127.0.0.1:9", "--last", "0"), "--last"),
    ],
)
def test_wrong_usage(fedplan: Invoke, arguments: tuple[str, ...], words: str) -> None:
    result = fedplan(*arguments)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_a_model_that_is_not_hosted_is_an_error(fedplan: Invoke, grid_url: str) -> None:
    for command in ("why", "events"):
        result = fedplan(command, grid_url, "none", "1")
        assert result.exit_code == 1
        assert "no model 'none'" in result.stderr
