"""How much of what peers send is held in memory at once, over all of them."""

import contextlib
from collections.abc import Callable, Iterator

from fedplan.errors import OverloadedError
from fedplan.grid.serving.together import Held

_FREE_BYTES = 64 * 1024
"""Of each message: so small ones are taken also while large ones fill the rest."""


class Intake:
    """Keeps count of the bytes of messages that are being read or answered.

    Args:
        limit: most bytes.
        held: how many are, by all processes of the grid; None for one process alone.
    """

    def __init__(self, limit: int, held: Held | None = None) -> None:
        self._limit = limit
        self._held = held or Held([0])

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Room for one message: a function that takes some more bytes, given back at the end of the block.

        The function raises OverloadedError when there is no room.
        """
        room = self.room()
        try:
            yield room.take
        finally:
            room.give_back()

    def room(self) -> "Room":
        """Room for one message, of which nothing is taken yet."""
        return Room(self)

    def claim(self, more: int) -> None:
        """Takes some bytes.

        Raises:
            OverloadedError: there is no room.
        """
        if more > 0 and self._held.total() + more > self._limit:
            raise OverloadedError("the grid is receiving as much as it can hold; try again later")
        self._held.add(more)

    def release(self, taken: int) -> None:
        """Gives some bytes back."""
        self._held.add(-taken)


class Room:
    """Room for one message."""

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._size = self._taken = 0

    def take(self, more: int) -> None:
        """Takes some more bytes.

        Raises:
            OverloadedError: there is no room.
        """
        needed = max(0, self._size + more - _FREE_BYTES) - self._taken
        self._intake.claim(needed)
        self._size += more
        self._taken += needed

    def give_back(self) -> None:
        """The message is not held any more."""
        self._intake.release(self._taken)
        self._size = self._taken = 0
