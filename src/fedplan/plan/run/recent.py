"""What was used last, and no more than so much of it."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """Values by key, of which the one that was used longest ago makes room for a new one."""

    def __init__(self, most: int) -> None:
        """Holds nothing yet, and never more than `most` values."""
        self._most = most
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: Hashable) -> Value | None:
        """The value of this key, which counts as used now; None where there is none."""
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def keep(self, key: Hashable, value: Value) -> None:
        """Takes a value in, in the place of that which was used longest ago where there is no room."""
        self._values[key] = value
        self._values.move_to_end(key)
        if len(self._values) > self._most:
            self._values.popitem(last=False)

    def clear(self) -> None:
        """Forgets all."""
        self._values.clear()
