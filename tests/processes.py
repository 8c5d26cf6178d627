"""Processes of fedplan that start at once: each is a fork of one that has imported PyTorch and fedplan.

To import them takes four seconds of a core, and tests start some two hundred processes. What runs is the
real program in a real process, with an environment, pipes and signals of its own. Tests of how a command
starts use `subprocess`.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from multiprocessing.reduction import DupFd
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NoReturn, Self

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.preloaded"])


class Process:
    """Does what `subprocess.Popen([sys.executable, *arguments], text=True)` does.

    Args:
        arguments: as Python takes them: ``-m MODULE …`` or ``-c CODE …``.
        env: its whole environment, by default that of this process.
        stdout: `subprocess.PIPE`, `subprocess.DEVNULL` or a file; stderr too.
    """

    def __init__(
        self,
        *arguments: object,
        env: Mapping[str, str] | None = None,
        stdout: int | IO[str] = subprocess.PIPE,
        stderr: int | IO[str] = subprocess.PIPE,
    ) -> None:
        self.stdout, out = _stream(stdout)
        self.stderr, error = _stream(stderr)
        program = _Program([str(a) for a in arguments], dict(env or os.environ), out, error)
        self._process = _FORKS.Process(target=program.run)
        self._process.start()
        self._waiting = threading.Lock()  # multiprocessing tells one thread alone how a process ended
        for descriptor in (out, error):
            os.close(descriptor)
        assert self._process.pid is not None
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe in (self.stdout, self.stderr):
            if pipe is not None:
                pipe.close()
        self.wait()

    @property
    def returncode(self) -> int | None:
        return self.poll()

    def poll(self) -> int | None:
        with self._waiting:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        with self._waiting:
            self._process.join(timeout)
            code = self._process.exitcode
        if code is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        return code

    def communicate(self, timeout: float | None = None) -> tuple[str | None, str | None]:
        """Waits until it ends, and gives all of its output that was not read yet."""
        read: dict[int, str] = {}
        pipes = {n: pipe for n, pipe in enumerate((self.stdout, self.stderr)) if pipe is not None}

        def reading(n: int, pipe: IO[str]) -> None:
            read[n] = pipe.read()

        readers = [threading.Thread(target=reading, args=each, daemon=True) for each in pipes.items()]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        for pipe in pipes.values():
            pipe.close()
        return read.get(0), read.get(1)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self._process.terminate()

    def kill(self) -> None:
        self._process.kill()


def _stream(wanted: int | IO[str]) -> tuple[IO[str] | None, int]:
    """What this process reads of a stream, and the descriptor that the other one writes to."""
    if wanted == subprocess.PIPE:
        read, write = os.pipe()
        return os.fdopen(read), write
    if wanted == subprocess.DEVNULL:
        return None, os.open(os.devnull, os.O_WRONLY)
    assert not isinstance(wanted, int)
    return None, os.dup(wanted.fileno())


class _Program:
    """What a fork runs. It travels there as a pickle, and its descriptors beside it."""

    def __init__(self, arguments: list[str], env: dict[str, str], out: int, error: int) -> None:
        self._arguments, self._env, self._folder = arguments, env, str(Path.cwd())
        self._descriptors = (out, error)

    def __getstate__(self) -> tuple[Any, ...]:
        return self._arguments, self._env, self._folder, *map(DupFd, self._descriptors)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self._arguments, self._env, self._folder, *descriptors = state
        for number, descriptor in enumerate(descriptors, 1):
            taken = descriptor.detach()
            os.dup2(taken, number)
            os.close(taken)

    def run(self) -> NoReturn:
        os.environ.clear()
        os.environ.update(self._env)
        os.chdir(self._folder)
        code = self._ended()
        if isinstance(code, str):
            print(code, file=sys.stderr)
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else code is not None)

    def _ended(self) -> object:
        """What the program handed to `sys.exit`, None if it came to its end."""
        kind, what, *arguments = self._arguments
        sys.argv = [what if kind == "-m" else kind, *arguments]
        try:
            if kind == "-m":
                runpy.run_module(what, run_name="__main__", alter_sys=True)
            else:
                exec(compile(what, "<string>", "exec"), {"__name__": "__main__"})
        except SystemExit as ended:
            return ended.code
        except BaseException:  # noqa: BLE001 - as the interpreter itself does
            traceback.print_exc()
            return 1
        return None
