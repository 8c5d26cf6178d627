"""How a sum is written: a head in JSON, then arrays of eight bytes a number, as they are in memory."""

import json
from collections.abc import Mapping
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import AggregationError
from fedplan.wire.scalars import Buffer

N = TypeVar("N", np.float64, np.int64)

Numbers = NDArray[np.float64] | NDArray[np.int64]

_WORD = 8
"""Bytes of a number, and of a length."""


def framed(head: Mapping[str, Any]) -> bytes:
    """A head in JSON, with its length before it, that ends where arrays may begin."""
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % _WORD)
    return len(text).to_bytes(_WORD, "little") + text


def unframed(data: Buffer) -> tuple[dict[str, Any], memoryview]:
    """The head that `framed` wrote, and what follows it."""
    whole = memoryview(data)
    end = _WORD + int.from_bytes(whole[:_WORD], "little")
    head: dict[str, Any] = json.loads(bytes(whole[_WORD:end]))
    return head, whole[end:]


class Arrays:
    """Numbers that stand one after the other.

    Both methods raise an AggregationError where there are other numbers than the reader's model has.

    Args:
        data: their bytes.
    """

    def __init__(self, data: memoryview) -> None:
        self._left = data

    def take(self, count: int, dtype: type[N]) -> NDArray[N]:
        """The next so many: a view that cannot be written to."""
        size = _WORD * count
        if size > len(self._left):
            raise AggregationError("the sum is of another model: it holds fewer numbers")
        taken, self._left = self._left[:size], self._left[size:]
        return np.frombuffer(taken, dtype)

    def end(self) -> None:
        """Sees that none is left."""
        if self._left:
            raise AggregationError("the sum is of another model: it holds more numbers")
