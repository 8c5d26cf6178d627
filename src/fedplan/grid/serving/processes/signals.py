"""The signals that end a grid of several processes, as something to wait for."""

import contextlib
import signal
import socket
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any, Self

_THAT_END = (signal.SIGINT, signal.SIGTERM)


class Signals:
    """SIGINT and SIGTERM, within a `with` block of the main thread; in another thread none comes."""

    def __init__(self) -> None:
        self.came: list[int] = []
        self._seen = 0
        self._handlers: dict[int, Callable[[int, FrameType | None], Any] | int | None] = {}
        self._wakeup = -1
        self._woken, self._waking = socket.socketpair()

    def __enter__(self) -> Self:
        """They come here from now on."""
        self._woken.setblocking(False)
        self._waking.setblocking(False)
        if threading.current_thread() is threading.main_thread():
            self._wakeup = signal.set_wakeup_fd(self._waking.fileno(), warn_on_full_buffer=False)
            self._handlers = {number: signal.signal(number, self._note) for number in _THAT_END}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """They do again what they did before; those that came do it now, unless an error says more."""
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        if self._handlers:
            signal.set_wakeup_fd(self._wakeup)
        self._woken.close()
        self._waking.close()
        if error is None:
            with contextlib.suppress(KeyboardInterrupt):
                for number in reversed(self.came):
                    signal.raise_signal(number)

    def fileno(self) -> int:
        """Can be read when one has come."""
        return self._woken.fileno()

    def new(self) -> list[int]:
        """Those that came since this was asked last."""
        with contextlib.suppress(BlockingIOError):
            while self._woken.recv(64):
                pass
        found = self.came[self._seen :]
        self._seen += len(found)
        return found

    def _note(self, number: int, _frame: FrameType | None) -> None:
        self.came.append(number)
