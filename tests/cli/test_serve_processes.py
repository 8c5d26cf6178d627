"""`fedplan serve --processes 2`: what it prints, how it ends, and with what it does not start."""

import contextlib
import json
import os
import signal
import sqlite3
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
from typer.testing import CliRunner

from fedplan.cli.main import app
from tests.cli.conftest import ENVIRONMENT
from tests.cli.test_serve import certificate, refused_at_once, start_and_stop
from tests.processes import Process

PROGRAM = """
from fedplan.cli.main import app
from tests.grid.serving.processes.running import by_forks
by_forks()
app({arguments!r}, prog_name="fedplan")
"""


@contextlib.contextmanager
def serving_in_two(*arguments: object) -> Iterator[Process]:
    """The command, whose processes start at once."""
    told = ["serve", "--processes", "2", "--port", "0", *map(str, arguments)]
    with Process("-c", PROGRAM.format(arguments=told), env=ENVIRONMENT) as process:
        try:
            yield process
        finally:
            process.terminate()


def test_ctrl_c_in_a_terminal_ends_the_command_and_its_processes_in_order(tmp_path: Path) -> None:
    """As people start it: processes that load everything, and a signal to all that the terminal knows."""
    cert, key = certificate(tmp_path)
    command = [
        sys.executable,
        "-m",
        "fedplan",
        "serve",
        "--processes",
        "2",
        "--port",
        "0",
        "--log-format",
        "json",
    ]
    command += ["--data", str(tmp_path / "data"), "--tls-cert", str(cert), "--tls-key", str(key)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            url = process.stdout.readline().strip()
            assert url.startswith("https://127.0.0.1:")
            trusting = ssl.create_default_context(cafile=str(cert))
            with httpx.Client(base_url=url, verify=trusting) as one, httpx.Client(verify=trusting) as other:
                for _ in range(3):
                    assert one.get("/healthz").json() == {"status": "ok"}
                assert (
                    'call="healthz",outcome="200",transport="http"} 3.0' in other.get(f"{url}/metrics").text
                )
            os.killpg(process.pid, signal.SIGINT)
            output, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, output) == (0, ""), errors
    told, *log = errors.splitlines()
    assert told.startswith("The grid is ready.")
    assert all(json.loads(line)["level"] == "info" for line in log), errors


def test_a_database_of_a_newer_fedplan_is_one_line_and_not_one_of_each_process(tmp_path: Path) -> None:
    start_and_stop(tmp_path / "data")
    with contextlib.closing(sqlite3.connect(tmp_path / "data" / "grid.db")) as database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
        database.commit()
    with serving_in_two("--data", tmp_path / "data") as process:
        output, errors = process.communicate(timeout=60)
    assert (process.returncode, output) == (1, "")
    (line,) = errors.splitlines()
    assert "schema 9999 of a newer fedplan" in line


def test_what_one_process_refuses_several_do(tmp_path: Path) -> None:
    """The address, the certificate and the settings are looked at before any of them starts."""
    several = ("--processes", 2, "--data", tmp_path / "data")
    assert "other machines reach this grid" in refused_at_once(*several, "--host", "0.0.0.0")
    assert "--tls-cert and --tls-key" in refused_at_once(*several, "--tls-key", tmp_path / "key.pem")
    assert "not JSON" in refused_at_once(*several, FEDPLAN_CORS_ORIGINS="x")
    assert not (tmp_path / "data").exists()


def test_there_is_one_process_at_least() -> None:
    result = CliRunner().invoke(app, ["serve", "--processes", "0"])
    assert result.exit_code == 2
    assert "--processes" in result.stderr
