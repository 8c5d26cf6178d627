"""How much of what peers send is held in memory at once, over all of them."""

import contextlib
from collections.abc import Callable, Iterator

from fedplan.errors import OverloadedError

_FREE_BYTES = 64 * 1024
"""Of each message: so small ones are taken also while large ones fill the rest."""


class Intake:
    """Keeps count of the bytes of messages that are being read or answered.

    Args:
        limit: most bytes.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit

    @contextlib.contextmanager
    def share(self) -> Iterator[Callable[[int], None]]:
        """Room for one message: a function that takes some more bytes, given back at the end of the block.

        The function raises OverloadedError when there is no room.
        """
        size = taken = 0

        def take(more: int) -> None:
            nonlocal size, taken
            size += more
            needed = max(0, size - _FREE_BYTES) - taken
            if needed > self._left:
                raise OverloadedError("the grid is receiving as much as it can hold; try again later")
            self._left -= needed
            taken += needed

        try:
            yield take
        finally:
            self._left += taken
