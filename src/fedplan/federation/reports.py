"""All diffs of a cycle, for the rules that need more than their sum."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class Reports(Protocol):
    """The trained tensors of a cycle's diffs as rows of a matrix, of which a part is in memory at a time."""

    @property
    def count(self) -> int:
        """How many diffs: rows."""

    @property
    def elements(self) -> int:
        """How many numbers a diff's trained tensors hold: columns."""

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """Some columns of all rows: (count, stop − start). The caller may write into it."""
