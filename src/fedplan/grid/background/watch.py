"""What stands still: how a replica finds out that another is gone, without a clock that both would share."""

from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)


class Watch(Generic[_K]):
    """Tells which counters of other replicas stand still, by this one's monotonic clock alone.

    Args:
        seconds: for how long one must have been seen unchanged.
        monotonic: the clock.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds = seconds
        self._monotonic = monotonic
        self._seen: dict[_K, tuple[object, float]] = {}

    def still(self, seen: Mapping[_K, object]) -> set[_K]:
        """Those that have not changed for so long; each look gives all that there are."""
        now = self._monotonic()
        before, self._seen = self._seen, {}
        for key, value in seen.items():
            known = before.get(key)
            self._seen[key] = known if known is not None and known[0] == value else (value, now)
        return {key for key, (_, since) in self._seen.items() if now - since >= self._seconds}

    def forget(self) -> None:
        """Begins anew: the database was away, so nobody could raise a counter."""
        self._seen = {}
