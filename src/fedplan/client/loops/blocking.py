"""Coroutines for callers that block: scripts, notebooks, threads.

The package is written once, in coroutines. One background thread runs one event loop for all blocking
calls, so connections stay open from one call to the next, and a notebook, whose own loop runs already, may
call them too. Names tell the forms apart: what the reference has as a coroutine has a blocking twin with
`_blocking` at the end of its name; what PySyft has as a blocking call has a twin with `_async`.
"""

import asyncio
import functools
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import wait
from typing import Any, ParamSpec, TypeVar

from fedplan.errors import JobStateError

P = ParamSpec("P")
T = TypeVar("T")

_LOOK_SECONDS = 0.2
"""How often a blocking call looks whether Ctrl-C was pressed. A signal that the system gives to another
thread does not wake the main one, and on Windows none does."""

CLEAN_UP_SECONDS = 5.0
"""How long Ctrl-C waits for a cancelled coroutine to close what it has open."""


class _Background:
    """The thread and its loop; started by the first blocking call."""

    loop: asyncio.AbstractEventLoop

    def __init__(self) -> None:
        started = threading.Event()

        def run() -> None:
            self.loop = asyncio.new_event_loop()  # here, where no Ctrl-C can come in between
            started.set()
            self.loop.run_forever()

        self.thread = threading.Thread(target=run, name="fedplan blocking calls", daemon=True)
        self.thread.start()
        started.wait()


_background: _Background | None = None
_starting = threading.Lock()


def _get_background() -> _Background:
    global _background  # noqa: PLW0603  one thread for the whole process is the point
    with _starting:
        if _background is None:
            _background = _Background()
        return _background


def _forget_background() -> None:
    """A forked child has the object but not the thread."""
    global _background, _starting
    _background, _starting = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_background)


def run_blocking(coroutine: Coroutine[Any, Any, T]) -> T:
    """Runs a coroutine in the background loop and waits for its result.

    Ctrl-C cancels the coroutine, waits until it has cleaned up, and is raised.

    Raises:
        JobStateError: called by code that runs in the background loop itself, such as an event handler of a
            blocking call; it would wait for itself.
    """
    background = _get_background()
    if threading.current_thread() is background.thread:
        coroutine.close()
        raise JobStateError(
            "a blocking call was made inside of another one, from an event handler: make the handler "
            "`async def` and await the coroutine form of the call"
        )
    ended = threading.Event()

    async def run() -> T:
        try:
            return await coroutine
        finally:
            ended.set()

    future = asyncio.run_coroutine_threadsafe(run(), background.loop)
    try:
        while not wait([future], _LOOK_SECONDS).done:
            pass
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        ended.wait(CLEAN_UP_SECONDS)
        raise


def blocking_iterator(values: AsyncIterator[T]) -> Iterator[T]:
    """The blocking form of an asynchronous iterator; it is closed with it."""

    async def take() -> T:
        return await anext(values)

    async def close() -> None:
        aclose = getattr(values, "aclose", None)
        if aclose is not None:
            await aclose()

    try:
        while True:
            try:
                value = run_blocking(take())
            except StopAsyncIteration:
                return
            yield value
    finally:
        run_blocking(close())


def blocking_twin(function: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """The blocking form of a coroutine function or method: same arguments, same result, same errors."""
    name = function.__name__
    twin_name = name.removesuffix("_async") if name.endswith("_async") else f"{name}_blocking"

    @functools.wraps(function)
    def twin(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_blocking(function(*args, **kwargs))

    twin.__name__ = twin_name
    twin.__qualname__ = function.__qualname__.removesuffix(name) + twin_name
    twin.__doc__ = f"{function.__doc__}\n\nBlocking form of `{name}`."
    return twin
