"""The demo's processes: `fedplan` commands that live as long as the demo, and not longer."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from fedplan.errors import FedplanError

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
"""For the environment, before torch is imported: on such small matrices threads only wait for each other."""

_START_SECONDS = 600.0
_STOP_SECONDS = 5.0


class Process:
    """One `fedplan` command in a process of its own, with its output in files."""

    def __init__(self, name: str, folder: Path, arguments: list[str]) -> None:
        """Starts it.

        Args:
            name: for messages and file names.
            folder: where its output goes.
            arguments: of `fedplan`.
        """
        self.name = name
        self._out, self._log = folder / f"{name}.out", folder / f"{name}.log"
        with self._out.open("wb") as out, self._log.open("wb") as log:
            self._popen = subprocess.Popen(  # nosec B603  # this program itself, with the demo's arguments
                # -P: what lies in the current folder must not be imported
                [sys.executable, "-P", "-m", "fedplan", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=log,
                env=_environment(),
            )

    def first_line(self) -> str:
        """The first line that it prints, waited for.

        Raises:
            FedplanError: it ended before, or prints nothing.
        """
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            line, newline, _ = self._out.read_text().partition("\n")
            if newline:
                return line
            self.check(alive=True)
            time.sleep(0.05)
        raise FedplanError(f"the {self.name} was not ready after {_START_SECONDS:.0f} seconds")

    def check(self, *, alive: bool) -> None:
        """Looks whether it is well.

        Args:
            alive: whether it must be running still; else it may have ended without an error.

        Raises:
            FedplanError: it is not; says its last words.
        """
        code = self._popen.poll()
        if code is None or (code == 0 and not alive):
            return
        how = f"was ended by the signal {-code}" if code < 0 else f"ended with the exit code {code}"
        words = self._log.read_text(errors="replace").strip().splitlines() or ["none"]
        raise FedplanError(f"the {self.name} {how}; its last words: {words[-1]}")

    def wait(self, seconds: float) -> None:
        """Waits for its end.

        Raises:
            FedplanError: it ended with an error, or not in time.
        """
        try:
            self._popen.wait(seconds)
        except subprocess.TimeoutExpired:
            raise FedplanError(f"the {self.name} did not end in time") from None
        self.check(alive=False)

    def terminate(self) -> None:
        """Asks it to stop, and does not wait."""
        if self._popen.poll() is None:
            self._popen.terminate()

    def end(self, deadline: float) -> None:
        """Waits until the deadline for it to stop, then kills it."""
        try:
            self._popen.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._popen.kill()
            self._popen.wait()


class Processes:
    """Processes that end when the `with` block ends, however it ends.

    Attributes:
        folder: holds their output, and whatever else they need.
    """

    def __init__(self, folder: Path) -> None:
        """No process yet."""
        self.folder = folder
        self._all: list[Process] = []

    def start(self, name: str, *arguments: str) -> Process:
        """Starts a `fedplan` command."""
        process = Process(name, self.folder, list(arguments))
        self._all.append(process)
        return process

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._all:
            process.terminate()
        deadline = time.monotonic() + _STOP_SECONDS
        for process in self._all:
            process.end(deadline)


def _environment() -> dict[str, str]:
    """The environment without settings of another grid, and with one thread for each process."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("FEDPLAN_")}
    return own | ONE_THREAD | {"FEDPLAN_RETRY_SECONDS": "1"}
