"""Who has masks in common with whom, and holds whose shares: a graph that follows from the roster."""

import functools
import hashlib
from collections.abc import Collection

from fedplan.federation.secure.keys import PROTOCOL


class NeighbourGraph:
    """The neighbours of each worker.

    With all others as neighbours it is the complete graph. Otherwise workers stand on a circle, in the order
    of the SHA-256 digests of protocol name, ``neighbours``, the roster's digest and the worker's number (four
    bytes, big-endian), and have degree / 2 neighbours on either side.

    Args:
        workers: how many there are; their numbers begin with 0.
        degree: neighbours of each; all others, or an even number.
        roster: the roster's digest.
    """

    def __init__(self, workers: int, degree: int, roster: bytes) -> None:
        self._workers = workers
        self._complete = degree >= workers - 1
        self._reach = degree // 2
        self._roster = roster

    def neighbours(self, worker: int) -> tuple[int, ...]:
        """The neighbours of a worker, in the order of their numbers."""
        if self._complete:
            return tuple(other for other in range(self._workers) if other != worker)
        place, circle = self._places[worker], self._circle
        steps = (step for step in range(-self._reach, self._reach + 1) if step)
        return tuple(sorted(circle[(place + step) % self._workers] for step in steps))

    def holders(self, worker: int) -> tuple[int, ...]:
        """Who holds a worker's shares: its neighbours and itself, in the order of their numbers."""
        return tuple(sorted((*self.neighbours(worker), worker)))

    def are_connected(self, workers: Collection[int]) -> bool:
        """Whether these workers, without the others, are one piece of the graph.

        If they are two, two sums can be told instead of one. On a circle they are one piece unless two gaps
        between them are wider than what a worker reaches over.
        """
        if self._complete or len(workers) < 2:
            return True
        places = sorted(self._places[worker] for worker in workers)
        following = [*places[1:], places[0] + self._workers]
        gaps = sum(after - before > self._reach for before, after in zip(places, following, strict=True))
        return gaps <= 1

    @functools.cached_property
    def _circle(self) -> list[int]:
        begin = PROTOCOL + b"neighbours" + self._roster
        return sorted(
            range(self._workers), key=lambda n: hashlib.sha256(begin + n.to_bytes(4, "big")).digest()
        )

    @functools.cached_property
    def _places(self) -> list[int]:
        places = [0] * self._workers
        for place, worker in enumerate(self._circle):
            places[worker] = place
        return places
