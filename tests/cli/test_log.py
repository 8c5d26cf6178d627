import io
import json
import logging
from pathlib import Path

import httpx

from fedplan.cli.log import JsonLine, OneLine, note_request
from fedplan.grid.observing.correlation import Correlation, answering
from tests.cli.conftest import fedplan_process

FORGED = "m\n2026-11-27 12:00:00 INFO fedplan.grid: all is well"


def logged(log, formatter: logging.Formatter | None = None) -> list[str]:
    """The lines of what a function logs."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter or OneLine("%(levelname)s %(name)s: %(message)s"))
    handler.addFilter(note_request)
    logger = logging.Logger("grid")
    logger.addHandler(handler)
    log(logger)
    return stream.getvalue().split("\n")[:-1]


def test_a_line_break_in_what_a_peer_sends_begins_no_entry() -> None:
    (line,) = logged(lambda logger: logger.info("'%s' is closed", FORGED))
    assert line == "INFO grid: 'm\\n2026-11-27 12:00:00 INFO fedplan.grid: all is well' is closed"


def test_the_lines_of_a_traceback_look_like_no_entry() -> None:
    def fail(logger: logging.Logger) -> None:
        try:
            raise ValueError(FORGED + "\r\x1b")
        except ValueError:
            logger.exception("a request failed")

    first, *others = logged(fail)
    assert first == "ERROR grid: a request failed"
    assert len(others) > 2
    assert all(line.startswith("    ") and line.isprintable() for line in others)


def test_a_json_entry_is_one_line_and_names_the_request() -> None:
    def log(logger: logging.Logger) -> None:
        logger.warning("'%s' is closed", FORGED)
        with answering(Correlation("abc")):
            try:
                raise ValueError(FORGED)
            except ValueError:
                logger.exception("a request failed")

    alone, failed = map(json.loads, logged(log, JsonLine()))
    assert alone == {
        "time": alone["time"],
        "level": "warning",
        "logger": "grid",
        "message": f"'{FORGED}' is closed",
    }
    assert alone["time"].endswith("+00:00")
    assert (failed["request_id"], failed["message"]) == ("abc", "a request failed")
    assert "ValueError" in failed["error"]


REFUSED = {"worker_id": "w", "request_key": "k", "diff": ""}


def log_of_a_grid(folder: Path, *options: str) -> list[str]:
    """What a grid logs while it refuses a report."""
    with fedplan_process("serve", "--port", 0, "--data", folder, *options) as process:
        url = process.stdout.readline().strip()
        answer = httpx.post(f"{url}/model-centric/report", json=REFUSED, headers={"x-request-id": "mine"})
        assert answer.status_code == 403
        process.terminate()
        return list(process.communicate(timeout=60)[1].splitlines())


def test_a_grid_logs_text_with_the_id_of_the_request(tmp_path: Path) -> None:
    lines = log_of_a_grid(tmp_path)
    (line,) = [line for line in lines if "a report was refused" in line]
    assert " INFO [mine] fedplan.grid.service.receiving: a report was refused" in line


def test_a_grid_logs_json_from_a_level_on(tmp_path: Path) -> None:
    entries = [
        json.loads(line)
        for line in log_of_a_grid(tmp_path, "--log-format", "json", "--log-level", "debug")
        if line.startswith("{")
    ]
    of_request = [entry for entry in entries if entry.get("request_id") == "mine"]
    assert {entry["level"] for entry in of_request} == {"debug", "info"}
    assert all(entry["logger"].startswith("fedplan.") for entry in entries if entry["level"] == "debug")
    assert log_of_a_grid(tmp_path, "--log-format", "json", "--log-level", "warning")[1:] == []
