"""The parent of a grid's processes: it starts them, starts those again that end, and tells all to end.

It listens, and each process takes connections from its socket; so nothing that peers send goes through the
parent. Processes are fresh ones, since a fork of one with threads may hang, and know of each other what
replicas of a grid know of each other.
"""

import contextlib
import dataclasses
import logging
import multiprocessing
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess
from pathlib import Path

from fedplan.errors import GridProcessError, SettingsError
from fedplan.grid.serving.listening import listening
from fedplan.grid.serving.processes.signals import Signals
from fedplan.grid.serving.processes.starting import READY, Order, follow
from fedplan.grid.serving.together import Board
from fedplan.grid.settings import Settings

logger = logging.getLogger(__name__)

CONTEXT: BaseContext = multiprocessing.get_context("spawn")
"""Starts the processes."""

_SETTLED_SECONDS = 10.0
"""A process that has served for so long did not end because it was started."""

_MOST_FAILURES = 5
"""After so many ends in a row as soon as it was started, a process is not started again."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
"""Seconds before a process is started again that ended at once: twice as many each time."""

_LOOK_SECONDS = 5.0
"""How often the parent looks whether each process is at work."""

_MOST_SILENT_LOOKS = 12
"""After so many looks in a row at which a process has said nothing since the last one, it hangs."""

_IN_ORDER = (0, -signal.SIGTERM, -signal.SIGINT)
"""How a process ends that was told to."""


def serve_in_processes(
    processes: int,
    settings: Settings | None = None,
    host: str = "127.0.0.1",
    port: int = 5000,
    *,
    on_ready: Callable[[int], None] | None = None,
    prepare: Callable[[], object] | None = None,
) -> None:
    """Serves a grid in several processes behind one port, until SIGINT or SIGTERM.

    This process listens, and watches the others: one that ends is started again. Call it from a program that
    may be imported (``if __name__ == "__main__":``), as `multiprocessing` wants it.

    Args:
        processes: how many, 1 at least.
        settings: how the grid runs; read from the environment when None.
        host: address to listen on.
        port: port to listen on; 0 takes any free one.
        on_ready: called with the port once all processes answer.
        prepare: what each process does first, such as to begin a log. It is pickled.

    Raises:
        OSError: the address cannot be listened on.
        SettingsError: there is not one process, the operating system cannot share a socket, or the database
            or the blobs cannot be shared; or as `serve` does.
        ConfigError: the database or the blobs cannot be opened.
        GridProcessError: a process ends again and again as soon as it is started, or did not end in order.
    """
    if processes < 1:
        raise SettingsError(f"a grid has one process at least, and not {processes}")
    if os.name != "posix":
        raise SettingsError("several processes cannot share a port on this system: leave --processes out")
    used = settings or Settings()
    with (
        Signals() as signals,
        listening(used, host, port) as listener,
        tempfile.TemporaryDirectory(prefix="fedplan-metrics-") as metrics,
    ):
        board = Board(processes, CONTEXT, Path(metrics))

        def start(number: int) -> _Child:
            ours, theirs = multiprocessing.Pipe()
            order = Order(number, used, listener, board, theirs, prepare)
            process = CONTEXT.Process(target=follow, args=(order,), name=f"grid {number + 1}")  # type: ignore[attr-defined]
            with theirs, _without_interrupts():
                process.start()
            return _Child(number, process, ours)

        parent = _Parent(processes, start, board, signals)
        try:
            parent.run(listener, on_ready)
        finally:
            parent.end_all()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Ctrl-C in a terminal is for the parent; a process that starts has no means yet to ignore it."""
    resource_tracker.ensure_running()  # what starts it lets signals through again
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclasses.dataclass
class _Child:
    """A process of the grid.

    Attributes:
        number: which one it is, from 0 on.
        process: the process.
        line: what it tells; None once it has told all.
        ready_at: since when it answers; None: not yet.
        error: for which it ends.
        beats: how often it had said that it is at work when the parent looked last.
        silent: looks in a row at which it had said nothing more.
    """

    number: int
    process: BaseProcess
    line: Connection | None
    ready_at: float | None = None
    error: Exception | None = None
    beats: int = 0
    silent: int = 0

    def hear(self) -> None:
        """Takes what it has told."""
        while self.line is not None:
            try:
                if not self.line.poll():
                    return
                told = self.line.recv()
            except (EOFError, OSError):
                self.line.close()
                self.line = None
                return
            if told == READY:
                self.ready_at = time.monotonic()
            else:
                self.error = told

    def tell(self, number: int) -> None:
        """Sends it a signal, if it is there."""
        if self.process.pid is not None and self.process.exitcode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)


class _Parent:
    """Watches the processes.

    Args:
        count: how many there are to be.
        start: starts one.
        board: what they have in common.
        signals: those that end them.
    """

    def __init__(self, count: int, start: Callable[[int], _Child], board: Board, signals: Signals) -> None:
        self._count = count
        self._start = start
        self._board = board
        self._signals = signals
        self._children: dict[int, _Child] = {}
        self._due = dict.fromkeys(range(count), 0.0)  # when which ones are started
        self._failures = [0] * count
        self._look_at = time.monotonic() + _LOOK_SECONDS
        self._was_ready = False  # all of them, once
        self._disorder = ""  # how one ended that was told to

    def run(self, listener: socket.socket, on_ready: Callable[[int], None] | None) -> None:
        """Until a signal came, and all of them have ended."""
        ending = False
        while self._children or not ending:
            self._start_due()
            self._wait()
            if not ending:
                self._end_those_that_hang()
            for number in self._signals.new():
                if not ending:
                    ending = True
                    self._due.clear()
                    listener.close()  # nobody is to wait for a connection that no process takes
                    self._tell_all(signal.SIGTERM)
                elif number == signal.SIGINT:  # a second Ctrl-C waits for nothing
                    self._tell_all(signal.SIGINT)
            for child in list(self._children.values()):
                has_ended = child.process.exitcode is not None
                child.hear()
                if has_ended:
                    self._miss(child, ending=ending)
            answering = sum(child.ready_at is not None for child in self._children.values())
            if answering == self._count and not (self._was_ready or ending):
                self._was_ready = True
                if on_ready is not None:
                    on_ready(listener.getsockname()[1])
        if self._disorder:
            raise GridProcessError(self._disorder)

    def end_all(self) -> None:
        """Ends those that there are, and waits until they have."""
        self._tell_all(signal.SIGTERM)
        for child in self._children.values():
            child.process.join()

    def _tell_all(self, number: int) -> None:
        for child in self._children.values():
            child.tell(number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, at in self._due.items() if at <= now]:
            del self._due[number]
            self._children[number] = self._start(number)

    def _wait(self) -> None:
        """Until there is something to do."""
        children = self._children.values()
        lines = [child.line for child in children if child.line is not None]
        ends = [child.process.sentinel for child in children]
        next_at = min([self._look_at, *self._due.values()])
        wait([*lines, *ends, self._signals.fileno()], max(0.0, next_at - time.monotonic()))

    def _end_those_that_hang(self) -> None:
        """Ends processes that are silent for long. They count by looks, so that a pause of all is none."""
        if time.monotonic() < self._look_at:
            return
        self._look_at = time.monotonic() + _LOOK_SECONDS
        for child in self._children.values():
            beats = self._board.beats(child.number)
            child.silent = child.silent + 1 if child.ready_at is not None and beats == child.beats else 0
            child.beats = beats
            if child.silent == _MOST_SILENT_LOOKS:
                seconds = _MOST_SILENT_LOOKS * _LOOK_SECONDS
                logger.error(
                    "process %d of %d (pid %s) has answered nothing for %.0f s and is ended; what it has "
                    "acknowledged is stored", child.number + 1, self._count, child.process.pid, seconds,
                )  # fmt: skip
                child.tell(signal.SIGKILL)

    def _miss(self, child: _Child, *, ending: bool) -> None:
        """A process has ended."""
        del self._children[child.number]
        self._board.clear(child.number)
        child.process.join()
        code = child.process.exitcode or 0
        who = f"process {child.number + 1} of {self._count} (pid {child.process.pid})"
        if ending:
            if code not in _IN_ORDER:
                self._disorder = f"{who} was told to end, and {_ended(code)}; nothing acknowledged is lost"
            return
        others_answer = any(other.ready_at is not None for other in self._children.values())
        if child.error is not None and not (self._was_ready and others_answer):
            raise child.error
        pause = self._pause(child)
        if child.error is None and self._failures[child.number] >= _MOST_FAILURES:
            raise GridProcessError(
                f"{who} {_ended(code)}; that is {_MOST_FAILURES} times in a row as soon as it was started. "
                "The log tells what it said; the system's log tells whether there was too little memory"
            )
        why = f"cannot serve: {child.error}" if child.error is not None else _ended(code)
        level = logging.INFO if code in _IN_ORDER and child.error is None else logging.ERROR
        logger.log(level, "%s %s; another one starts in %.1f s", who, why, pause)
        self._due[child.number] = time.monotonic() + pause

    def _pause(self, child: _Child) -> float:
        """Counts whether it ended at once; seconds until another one starts in its place."""
        has_served = child.ready_at is not None and time.monotonic() - child.ready_at >= _SETTLED_SECONDS
        self._failures[child.number] = 0 if has_served else self._failures[child.number] + 1
        failures = self._failures[child.number]
        return 0.0 if has_served else min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (failures - 1))


def _ended(code: int) -> str:
    """How a process has ended."""
    if code >= 0:
        return "has ended" if code == 0 else f"ended with the exit code {code}"
    names = {number.value: number.name for number in signal.Signals}
    return f"was ended by {names.get(-code, f'signal {-code}')}"
