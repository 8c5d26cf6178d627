"""Things that belong to one event loop, such as connections, behind an object that any loop may use."""

import asyncio
import weakref
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One value for each event loop, made when it is first asked for there.

    A client can so be made outside of a loop, be used in one `asyncio.run` after another, and by the loop
    of the blocking calls at the same time.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def get(self) -> T:
        """The running loop's value."""
        loop = asyncio.get_running_loop()
        if loop not in self._values:
            self._values[loop] = self._make()
        return self._values[loop]

    def pop(self) -> T | None:
        """Takes the running loop's value away; None when there is none."""
        return self._values.pop(asyncio.get_running_loop(), None)
