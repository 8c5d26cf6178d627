"""Reports that are in memory."""

import dataclasses

import numpy as np
from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True, slots=True)
class MatrixReports:
    """The reports of a cycle as one matrix in memory; see `fedplan.federation.Reports`.

    Attributes:
        rows: (reports, elements); all values are finite.
    """

    rows: NDArray[np.float32] | NDArray[np.float64]

    @property
    def count(self) -> int:
        """How many diffs: rows."""
        return len(self.rows)

    @property
    def elements(self) -> int:
        """How many numbers each holds: columns."""
        return int(self.rows.shape[1])

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """A copy of some columns: (reports, stop − start)."""
        return self.rows[:, start:stop].copy()
