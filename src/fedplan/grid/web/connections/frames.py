"""How fast the frames of a WebSocket come: counted without being read, for to read them is what costs."""

import time
from collections.abc import Callable

_LONGEST_HEAD = 14
"""Bytes of a frame's head with its mask (RFC 6455, 5.2)."""

_BYTES_OF_A_FRAME = 1024
"""So many bytes are worth one frame: a large message may come in any number of sensible pieces."""


class Frames:
    """The frames that a peer sends, each of which may be empty, or a ping that has to be answered.

    A peer has an allowance of frames, which grows with time and with the bytes that it sends.

    Args:
        burst: the allowance at most, and at first.
        rate: frames by which it grows in a second.
        clock: the time in seconds.
    """

    def __init__(
        self, burst: int = 1000, rate: float = 1000.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._burst = burst
        self._rate = rate
        self._clock = clock
        self._allowance = float(burst)
        self._at = clock()
        self._left = 0  # bytes of the present frame that have not come
        self._head = bytearray()  # of a frame, as far as it has come

    def are_too_many(self, data: bytes) -> bool:
        """Counts the frames that begin in the next bytes; says whether they are more than are allowed."""
        now = self._clock()
        grown = self._allowance + self._rate * (now - self._at) + len(data) / _BYTES_OF_A_FRAME
        self._at, self._allowance = now, min(float(self._burst), grown)
        at, end = 0, len(data)
        while at < end:
            if self._left:
                step = min(self._left, end - at)
                self._left -= step
                at += step
                continue
            known = len(self._head)
            self._head += data[at : at + _LONGEST_HEAD - known]
            size = _head_size(self._head)
            if size is None:
                return False  # all that has come is in the head
            self._left = _payload_size(self._head)
            self._head.clear()
            at += size - known
            self._allowance -= 1
            if self._allowance < 0:
                return True
        return False


def _head_size(head: bytearray) -> int | None:
    """Bytes of a frame's head; None when more of it has to come."""
    if len(head) < 2:
        return None
    size = 2 + {126: 2, 127: 8}.get(head[1] & 127, 0) + (4 if head[1] & 128 else 0)
    return size if len(head) >= size else None


def _payload_size(head: bytearray) -> int:
    """Bytes of a frame after its head, which is whole."""
    short = head[1] & 127
    if short < 126:
        return short
    return int.from_bytes(head[2:4] if short == 126 else head[2:10])
