"""A coroutine that runs beside its starter, and whose end any task, event loop and thread can wait for."""

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any

from fedplan.errors import JobStateError

_running: set["BackgroundRun"] = set()
"""An event loop holds its tasks weakly: without this a training that nobody holds could vanish midway."""


class BackgroundRun:
    """Runs one coroutine after another."""

    def __init__(self) -> None:
        """Nothing runs yet."""
        self._task: asyncio.Task[None] | None = None
        self._ended: concurrent.futures.Future[None] = concurrent.futures.Future()
        self._thread = 0

    @property
    def running(self) -> bool:
        """Whether a coroutine was begun and has not ended."""
        return self._task is not None and not self._task.done()

    @property
    def inside(self) -> bool:
        """Whether the caller is the running coroutine, or called by it: it must not wait for itself."""
        return self.running and self._thread == threading.get_ident() and asyncio.current_task() is self._task

    def check_idle(self) -> None:
        """Raises JobStateError when something is running."""
        if self.running:
            raise JobStateError("the training is running: await wait() or stop() first")

    def check_can_begin(self) -> None:
        """Raises JobStateError when something is running, or no event loop is."""
        self.check_idle()
        try:
            asyncio.get_running_loop()
        except RuntimeError:
            raise JobStateError(
                "no event loop is running in this thread: train inside of a coroutine, or call "
                "Job.train_blocking or fedplan.participate"
            ) from None

    def begin(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Starts a coroutine in the next turn of the running event loop."""
        task = asyncio.get_running_loop().create_task(coroutine, name="fedplan training")
        self._ended = concurrent.futures.Future()
        self._thread = threading.get_ident()
        self._task = task  # last: another thread that sees it waits for that end, and not for an earlier one
        task.add_done_callback(self._note_end)
        _running.add(self)
        return task

    def _note_end(self, _task: asyncio.Task[None]) -> None:
        _running.discard(self)
        self._ended.set_result(None)

    async def result(self) -> None:
        """Waits for the end in the event loop that runs it, and raises what it raised.

        Raises:
            JobStateError: nothing was begun, or the coroutine waits for itself.
        """
        if self._task is None:
            raise JobStateError("the training was not started")
        if self.inside:
            raise JobStateError(
                "a handler of the training cannot wait for the end of it: it would never come"
            )
        await asyncio.shield(self._task)

    async def ended(self) -> None:
        """Waits for the end in any event loop, however it ends; returns at once in the coroutine itself."""
        if self.running and not self.inside:
            await asyncio.shield(asyncio.wrap_future(self._ended))

    def ended_blocking(self) -> None:
        """Waits for the end in any other thread.

        Raises:
            JobStateError: called in the thread that runs it.
        """
        if self.running:
            if self._thread == threading.get_ident():
                raise JobStateError(
                    "stop_blocking was called in the thread that trains: await stop() instead"
                )
            self._ended.result()
