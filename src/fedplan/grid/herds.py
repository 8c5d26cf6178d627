"""How many rejected workers wait, by what they were told: each process counts those that it has told.

Whoever waits is counted once, until the newest time that it was told. One address counts for no more than a
number, however many worker ids it comes with: else one client could make all others wait.
"""

import collections
import heapq
from typing import TypeVar

from fedplan.grid.web.rates import household

_K = TypeVar("_K")

_MOST = 200_000
"""Workers that are remembered, of all models together. Beyond, others are not counted."""

_Key = tuple[int, str]
"""A model, and who waits for it (or an address from which some do)."""


class Herds:
    """Rejected workers by model, until the time comes at which they were told to ask again.

    Args:
        most_of_address: so many workers of one address are counted for a model; 0: all are.
        most: so many are remembered.
    """

    def __init__(self, most_of_address: int = 0, most: int = _MOST) -> None:
        self._most_of_address = most_of_address
        self._most = most
        self._waiting: dict[_Key, tuple[int, str | None]] = {}  # until which second, and from which address
        self._told: dict[int, set[_Key]] = {}
        self._seconds: list[int] = []  # a heap of those that `_told` has
        self._of_model = collections.Counter[int]()
        self._of_address = collections.Counter[_Key]()

    def add(self, process_id: int, identity: str, until: float, now: float, address: str | None) -> None:
        """Counts a worker until the time that it was told; a time that it was told before is forgotten.

        Args:
            process_id: the model.
            identity: see `auth.Worker`.
            until: when it is to ask again.
            now: the time.
            address: from which it asks; None inside one process.
        """
        self._forget_past(now)
        self.remove(process_id, identity)
        place = None if address is None or not self._most_of_address else household(address)
        is_much = place is not None and self._of_address[process_id, place] >= self._most_of_address
        if is_much or len(self._waiting) >= self._most:
            return
        key, second = (process_id, identity), int(until)
        if second not in self._told:
            self._told[second] = set()
            heapq.heappush(self._seconds, second)
        self._told[second].add(key)
        self._waiting[key] = second, place
        self._of_model[process_id] += 1
        if place is not None:
            self._of_address[process_id, place] += 1

    def remove(self, process_id: int, identity: str) -> None:
        """Counts a worker no more, since it has asked again."""
        key = process_id, identity
        if key in self._waiting:
            self._told[self._waiting[key][0]].remove(key)
            self._forget(key)

    def count(self, process_id: int, now: float) -> int:
        """How many wait for a model."""
        self._forget_past(now)
        return self._of_model.get(process_id, 0)

    def _forget_past(self, now: float) -> None:
        """Forgets whom the time has come for, of all models: some of these may be deleted."""
        while self._seconds and self._seconds[0] < now:
            for key in self._told.pop(heapq.heappop(self._seconds)):
                self._forget(key)

    def _forget(self, key: _Key) -> None:
        _, place = self._waiting.pop(key)
        _less(self._of_model, key[0])
        if place is not None:
            _less(self._of_address, (key[0], place))


def _less(counts: collections.Counter[_K], key: _K) -> None:
    """Counts one less; what is 0 takes no memory."""
    counts[key] -= 1
    if not counts[key]:
        del counts[key]
