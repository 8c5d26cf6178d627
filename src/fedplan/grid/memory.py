"""What is remembered of the store and the blobs: what never changes there once it is written."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

_K = TypeVar("_K", bound=Hashable)
_V = TypeVar("_V")


class Memory(Generic[_K, _V]):
    """The values that were used last, up to a size in all.

    Args:
        limit: most size in all, in whatever unit the sizes are.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._values: OrderedDict[_K, tuple[_V, int]] = OrderedDict()
        self._size = 0

    def get(self, key: _K) -> _V | None:
        """The value of a key; None when it is not remembered."""
        found = self._values.get(key)
        if found is None:
            return None
        self._values.move_to_end(key)
        return found[0]

    def put(self, key: _K, value: _V, size: int = 1) -> None:
        """Remembers a value, and forgets others to make room for it."""
        self.forget(key)
        if not self.takes(size):
            return
        self._values[key] = value, size
        self._size += size
        while self._size > self._limit:
            _, (_, freed) = self._values.popitem(last=False)
            self._size -= freed

    def takes(self, size: int) -> bool:
        """Whether something of this size is remembered: it must not drive all others out."""
        return size <= self._limit // 4

    def forget(self, key: _K) -> None:
        """Forgets a key, if it is known."""
        _, size = self._values.pop(key, (None, 0))
        self._size -= size
