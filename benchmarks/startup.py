"""How long it takes until something happens: importing, the command line, a grid that answers."""

import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable

from benchmarks.line import Line, Options
from benchmarks.timing import duration, interleave, quartiles

SCRIPTS = pathlib.Path(sys.executable).parent


def run(options: Options) -> list[Line]:
    """Imports against `import torch`; the commands against the time that people wait gladly."""
    rounds = options.rounds(9)
    imports = [
        interleave(_python(f"import {ours}"), _python("import torch"), rounds=rounds).line(what, target)
        for what, ours, target in (
            ("import fedplan", "fedplan", 1.3),
            ("import fedplan.client, all that a worker runs", "fedplan.client", 1.5),
        )
    ]
    return [
        *imports,
        _absolute("fedplan --help", _command("--help"), 0.5, rounds),
        _absolute("fedplan serve, until it answers", _serve, 3, rounds),
    ]


def _python(text: str) -> Callable[[], object]:
    return lambda: subprocess.run([sys.executable, "-c", text], check=True)  # nosec B603  # our own text


def _command(*arguments: str) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        subprocess.run([SCRIPTS / "fedplan", *arguments], check=True, stdout=subprocess.DEVNULL)  # nosec B603  # ours
        return time.perf_counter() - begin

    return timed


def _serve() -> float:
    """Seconds until a grid with an empty folder prints its URL, which it does when it answers."""
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        process = subprocess.Popen(  # nosec B603  # our own command
            [SCRIPTS / "fedplan", "serve", "--port", "0", "--data", os.path.join(folder, "data")],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert process.stdout is not None
        with process.stdout:
            line = process.stdout.readline()
            taken = time.perf_counter() - begin
            process.terminate()
            process.wait()
        if not line.startswith(b"http"):
            raise RuntimeError("fedplan serve did not start: run it by hand to see why")
        return taken


def _absolute(what: str, timed: Callable[[], float], target: float, rounds: int) -> Line:
    if rounds > 1:
        timed()  # the files of the first run come from the disk
    seconds = [timed() for _ in range(rounds)]
    median = statistics.median(seconds)
    return Line(what, duration(median), "", median, quartiles(seconds), target, "s")
