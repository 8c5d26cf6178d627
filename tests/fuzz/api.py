"""schemathesis over the grid's own `/openapi.json`: single calls, and calls that follow the links in it.

The grid is `fedplan serve` in a process of its own, reached at a loopback address with an owner token. An
answer of 500 and more, one after a second, or one that the document does not describe is a fault.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx

from tests.fuzz.target import MOST_SECONDS, FuzzFaultError
from tests.grid.models import hosting

ANSWERS = "FEDPLAN_FUZZ_ANSWERS"
"""The variable that names the file to which `tests.fuzz.api_hooks` writes."""

OWNER_TOKEN = "the-owner-of-the-grid-under-test"

CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
)

_PER_EXAMPLE = 45
"""About as many requests an example of each operation costs, with those of its links."""

_SETTINGS = {"FEDPLAN_POLL_SECONDS": "0.2", "FEDPLAN_RETRY_SECONDS": "1", "OMP_NUM_THREADS": "1"}


@dataclasses.dataclass(frozen=True)
class ApiRun:
    """What came of it.

    Attributes:
        requests: that were answered.
        faults: different ones.
        statuses: how often each was answered, as `POST /path 200`.
        slowest: seconds of the slowest answer.
        slowest_of: the operation that gave it.
    """

    requests: int
    faults: int
    statuses: Mapping[str, int]
    slowest: float
    slowest_of: str

    @property
    def never_succeeded(self) -> tuple[str, ...]:
        """The operations of which no call was answered with success: behind that nothing was tried."""
        succeeded = {name.rpartition(" ")[0] for name in self.statuses if name.rpartition(" ")[2] < "300"}
        return tuple(sorted({name.rpartition(" ")[0] for name in self.statuses} - succeeded))


def try_api(inputs: int, seed: int, out: Path) -> ApiRun:
    """Sends about so many requests to a new grid, as `try_document` does.

    Raises:
        FuzzFaultError: schemathesis, or the grid, did not get to the end.
    """
    with tempfile.TemporaryDirectory() as folder, _grid(Path(folder)) as url:
        return try_document(url, inputs, seed, out)


def try_document(url: str, inputs: int, seed: int, out: Path) -> ApiRun:
    """Sends about so many requests to what publishes an OpenAPI document.

    Args:
        url: of it, without `/openapi.json`.
        inputs: how many; a thousand or so are sent at least, for each part of the document once.
        seed: which ones.
        out: where what failed is written, as curl commands.

    Raises:
        FuzzFaultError: schemathesis did not get to the end.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, answers = Path(folder) / "report.json", Path(folder) / "answers.json"
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", f"{url}/openapi.json"),
            *("--header", f"Authorization: Bearer {OWNER_TOKEN}", "--checks", ",".join(CHECKS)),
            *("--max-response-time", str(MOST_SECONDS), "--continue-on-failure", "--no-shrink"),
            *("--max-examples", str(max(1, inputs // _PER_EXAMPLE)), "--seed", str(seed)),
            *("--report-json-path", str(report), "--generation-database", "none"),
            *("--warnings", "off", "--no-color", "--suppress-health-check", "all"),
        ]
        env = os.environ | {"SCHEMATHESIS_HOOKS": "tests.fuzz.api_hooks", ANSWERS: str(answers)}
        env["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
        # in that folder, where its cache goes
        done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True, check=False)
        if not report.exists() or not answers.exists():
            raise FuzzFaultError(f"schemathesis ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
        told, seen = json.loads(report.read_text()), json.loads(answers.read_text())
        faults = len(told["failures"]) + len(told["errors"])
        if faults or done.returncode:
            out.mkdir(exist_ok=True)
            file = out / f"api-{seed}.txt"
            file.write_text(done.stdout)
            print(f"api: {file}\n{done.stdout[done.stdout.find('= FAILURES') :]}", flush=True)
        statuses: dict[str, int] = seen["statuses"]
        return ApiRun(sum(statuses.values()), max(faults, done.returncode), statuses, *seen["slowest"])


@contextlib.contextmanager
def _grid(folder: Path) -> Iterator[str]:
    """The URL of a grid that has hosted a model: the first hosting loads what translates Plans."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLAN_")}
    env |= _SETTINGS | {"FEDPLAN_OWNER_TOKEN": OWNER_TOKEN}
    command = [sys.executable, "-m", "fedplan", "serve", "--port", "0", "--data", str(folder / "data")]
    with (folder / "log").open("w") as log:
        grid = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert grid.stdout is not None
        url = grid.stdout.readline().strip()
        if not url:
            raise FuzzFaultError(f"the grid did not start: {(folder / 'log').read_text()}")
        request: dict[str, Any] = hosting("m", server={"max_diffs": 3})
        token = {"Authorization": f"Bearer {OWNER_TOKEN}"}
        httpx.post(f"{url}/model-centric/host-training", json=request, headers=token).raise_for_status()
        yield url
        if grid.poll() is not None:
            raise FuzzFaultError(f"the grid ended with {grid.returncode}: {(folder / 'log').read_text()}")
    finally:
        grid.terminate()
        grid.communicate()
