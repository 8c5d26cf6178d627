"""All diffs of a cycle in one file, for rules that read them by slices."""

import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedplan.federation import Setting, Tensors
from fedplan.federation.tensors import values_of


class Scratch:
    """The trained tensors of diffs as rows of a matrix, in a nameless file that is gone after the block.

    They are there as float32, or as float64 if the model has a trained tensor of that, or of integers.

    Args:
        folder: where the file is.
        setting: the model.
        count: how many diffs there will be.
    """

    def __init__(self, folder: Path, setting: Setting, count: int) -> None:
        layout = [setting.changing_layout[place] for place in setting.trained]
        floats = all(dtype in ("float16", "bfloat16", "float32") for _, dtype in layout)
        self.count = count
        self.elements = sum(math.prod(shape) for shape, _ in layout)
        self._places = setting.trained
        self._folder = folder
        self._dtype = np.dtype(np.float32 if floats else np.float64)
        self._rows: NDArray[np.float32] | NDArray[np.float64]

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=self._folder)
        self._file.truncate(max(1, self.count * self.elements * self._dtype.itemsize))
        self._rows = np.memmap(self._file, self._dtype, "r+", shape=(self.count, self.elements))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._rows
        self._file.close()

    def put(self, row: int, diff: Tensors, factor: float = 1.0) -> None:
        """Writes a diff times a factor: all tensors that change, of which the trained ones are kept."""
        at = 0
        for place in self._places:
            values = values_of(diff[place])
            kept = self._rows[row, at : at + values.size]
            np.multiply(values.reshape(-1), factor, out=kept, casting="unsafe")
            at += values.size

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """See `fedplan.federation.Reports`."""
        return self._rows[:, start:stop].copy()
