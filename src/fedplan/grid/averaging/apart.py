"""Averaging by Plans of models' owners in processes of their own, with bounds on memory and time.

The address space is no measure of what such a process takes, for PyTorch maps gigabytes that it never uses.
So the memory that it has in fact (its resident set) is looked at many times a second, and it is killed when
that is too much. What it takes for itself, before it has a Plan, does not count.
"""

import atexit
import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Self, cast

from fedplan.errors import AggregationError
from fedplan.federation import Setting, Tensors
from fedplan.grid.averaging import folding
from fedplan.grid.settings import Settings
from fedplan.plan import Limits
from fedplan.wire import State
from fedplan.wire.scalars import Buffer

_AT_ONCE = threading.BoundedSemaphore(2)
"""So many Plans are run at once, each of which may take all that one may."""

_LOOK_SECONDS = 0.02
_IDLE_SECONDS = 60.0
"""How long a process is kept for the next Plan: to start one takes seconds, for it loads PyTorch."""

_START_SECONDS = 120.0
"""A process that has not started by then is ended: a cycle waits for it."""

_GROWN_BYTES = 64 * 1024 * 1024
"""A process that has kept so much more than it began with is not used again."""

_WORK_PER_SECOND = 10**10
"""Additions and multiplications of one core, when it does nothing slower."""

_PASSED_ON = ("PATH", "HOME", "LANG", "TZ", "TMPDIR", "TEMP", "SYSTEMROOT", "LD_LIBRARY_PATH")
_PASSED_ON_PREFIXES = ("PYTHON", "LC_", "OMP_", "MKL_", "KMP_", "DYLD_")
"""What such a process is told of the environment: none of the grid's secrets is in it."""


@dataclasses.dataclass(frozen=True, slots=True)
class Bounds:
    """What an averaging Plan may take.

    Attributes:
        bytes: memory of its process, beside what this takes for itself.
        seconds: time that it may compute in one cycle.
    """

    bytes: int
    seconds: float

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What a grid allows."""
        return cls(settings.averaging_bytes or memory_of_machine() // 4, settings.averaging_seconds)

    @property
    def limits(self) -> Limits:
        """What a run may need, as it is estimated beforehand. Reading the diffs takes as much again."""
        return Limits(self.bytes // 2, min(int(self.seconds * _WORK_PER_SECOND), 2**62))


class Apart:
    """Runs averaging Plans in other processes.

    Args:
        bounds: what each may take.
    """

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds

    def fold(self, load: Callable[[], bytes], setting: Setting) -> Callable[[Iterable[Tensors]], Tensors]:
        """What a `Strategy.fold` is to be whose Plan runs elsewhere.

        Args:
            load: reads the Plan.
            setting: the model's.
        """

        def folded(diffs: Iterable[Tensors]) -> Tensors:
            with _AT_ONCE, _lent() as process:
                return process.average(load(), setting, diffs, self._bounds)

        return folded


class _Process:
    """A process that averages. While it is at work a thread watches it."""

    def __init__(self) -> None:
        """Starts it.

        Raises:
            OSError: it cannot be started.
        """
        self._process = subprocess.Popen(  # nosec B603  # this interpreter, with a file of this package
            [sys.executable, "-P", str(Path(folding.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None,  # the grid's, where its log goes: a traceback may stand there
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the grid
        )
        self._in = cast("BinaryIO", self._process.stdin)
        self._out = cast("BinaryIO", self._process.stdout)
        self._why = ""  # it was stopped
        self._at_work = False
        self._time: tuple[float, float | None] = 0.0, None
        """Seconds computed before, and since when it computes: one value, which two threads use."""
        self.idle_since = 0.0
        late = threading.Timer(_START_SECONDS, self._process.kill)
        late.start()
        try:
            folding.receive(self._out)
        except EOFError:
            code = self._process.wait()
            self.end()
            why = f"exit code {code}" if late.is_alive() else f"it did not answer in {_START_SECONDS:g} s"
            raise OSError(f"the process for averaging Plans could not be started ({why})") from None
        finally:
            late.cancel()
        self._own = self._resident()

    def average(self, plan: bytes, setting: Setting, diffs: Iterable[Tensors], bounds: Bounds) -> Tensors:
        """Averages diffs by a Plan.

        Raises:
            AggregationError: the Plan failed, took more than it may, or its process ended.
        """
        job = {
            "layout": setting.layout,
            "changing": setting.changing,
            "iterative": setting.server.iterative_plan,
            "limits": dataclasses.asdict(bounds.limits),
        }
        self._at_work, self._time = True, (0.0, None)
        done = threading.Event()
        watching = threading.Thread(target=self._watch, args=(done, bounds), name="fedplan-apart")
        watching.start()
        try:
            self._send(folding.JOB, json.dumps(job).encode())
            self._send(folding.PLAN, plan)
            for diff in diffs:
                self._send(folding.DIFF, State.of(diff).serialize())
            self._send(folding.END)
            with self._computing():
                kind, answer = folding.receive(self._out)
            self._at_work = False
        except (EOFError, BrokenPipeError):
            raise AggregationError(self._why or self._ended()) from None
        finally:
            done.set()
            watching.join()
        if self._why:
            raise AggregationError(self._why)
        if kind == folding.FAILED:
            raise AggregationError(answer.decode())
        return State.parse(answer).tensors

    @property
    def is_usable(self) -> bool:
        """Whether it lives, is not in the middle of a job, and has given back what it took."""
        if self._why or self._at_work or self._process.poll() is not None:
            return False
        return self._resident() < self._own + _GROWN_BYTES

    def end(self) -> None:
        """Ends it, also at work."""
        self._process.kill()
        for stream in (self._in, self._out):
            with contextlib.suppress(BrokenPipeError):
                stream.close()
        self._process.wait()

    def _send(self, kind: bytes, content: Buffer = b"") -> None:
        with self._computing():  # it reads when it has computed
            folding.send(self._in, kind, content)

    @contextlib.contextmanager
    def _computing(self) -> Iterator[None]:
        """Counts the time: that in which the grid reads the next diff is not the Plan's."""
        self._time = self._time[0], time.monotonic()
        try:
            yield
        finally:
            self._time = self._seconds(), None

    def _seconds(self) -> float:
        before, since = self._time
        return before + (0.0 if since is None else time.monotonic() - since)

    def _watch(self, done: threading.Event, bounds: Bounds) -> None:
        while not done.wait(_LOOK_SECONDS):
            if self._resident() - self._own > bounds.bytes:
                self._why = (
                    f"the averaging Plan was stopped: it took more than {bounds.bytes:,} bytes of memory, "
                    "which this grid allows (FEDPLAN_AVERAGING_BYTES)"
                )
            elif self._seconds() > bounds.seconds:
                self._why = (
                    f"the averaging Plan was stopped: it computed for more than {bounds.seconds:g} s, which "
                    "this grid allows (FEDPLAN_AVERAGING_SECONDS)"
                )
            if self._why:
                self._process.kill()
                return

    def _resident(self) -> int:
        """Bytes of memory that it has; 0 where the system does not tell."""
        try:
            pages = Path(f"/proc/{self._process.pid}/statm").read_text().split()[1]
            return int(pages) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, IndexError):  # it has ended, or this is not Linux
            return 0 if sys.platform == "linux" else _resident_by_ps(self._process.pid)

    def _ended(self) -> str:
        code = self._process.wait()
        how = f"exit code {code}"
        with contextlib.suppress(ValueError):
            how = signal.Signals(-code).name
        return f"the averaging Plan failed: its process ended by itself, or somebody ended it ({how})"


class _Idle:
    """The processes that have nothing to do; each is kept for a while."""

    def __init__(self) -> None:
        self._processes: list[_Process] = []
        self._lock = threading.Lock()
        self._is_watched = False

    def take(self) -> _Process:
        """One of them, or a new one.

        Raises:
            OSError: it cannot be started.
        """
        while True:
            with self._lock:
                process = self._processes.pop() if self._processes else None
            if process is None:
                return _Process()
            if process.is_usable:
                return process
            process.end()

    def give_back(self, process: _Process) -> None:
        """Keeps a process, if it can be used again."""
        if not process.is_usable:
            process.end()
            return
        process.idle_since = time.monotonic()
        with self._lock:
            self._processes.append(process)
            starts, self._is_watched = not self._is_watched, True
        if starts:
            self._look_later()

    def end(self, for_seconds: float = 0.0) -> None:
        """Ends those that have had nothing to do for so long."""
        before = time.monotonic() - for_seconds
        with self._lock:
            old = [process for process in self._processes if process.idle_since <= before]
            self._processes = [process for process in self._processes if process not in old]
        for process in old:
            process.end()

    def _look_later(self) -> None:
        timer = threading.Timer(_IDLE_SECONDS / 2, self._look)
        timer.daemon = True
        timer.start()

    def _look(self) -> None:
        self.end(_IDLE_SECONDS)
        with self._lock:
            self._is_watched = bool(self._processes)
        if self._is_watched:
            self._look_later()


_idle = _Idle()
atexit.register(_idle.end)


@contextlib.contextmanager
def _lent() -> Iterator[_Process]:
    process = _idle.take()
    try:
        yield process
    finally:
        _idle.give_back(process)


def _environment() -> dict[str, str]:
    told = {
        name: value
        for name, value in os.environ.items()
        if name in _PASSED_ON or name.startswith(_PASSED_ON_PREFIXES)
    }
    return {**told, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}


def _resident_by_ps(pid: int) -> int:
    try:
        told = subprocess.run(  # nosec B603, B607  # a number only; PATH is the operator's
            ["ps", "-o", "rss=", "-p", str(pid)], capture_output=True, check=True, text=True
        )
        return int(told.stdout) * 1024
    except (OSError, ValueError, subprocess.CalledProcessError):
        return 0


def memory_of_machine() -> int:
    """Bytes of memory that this process could have: the machine's, or those of its control group."""
    found = []
    with contextlib.suppress(ValueError, OSError, AttributeError):
        found.append(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    for file in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with contextlib.suppress(OSError, ValueError):  # "max" is no number
            found.append(int(Path(file).read_text()))
    return min(found, default=4 * 2**30)
