"""All diffs of a cycle in one file, for rules that read them by slices."""

import math
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from fedplan.federation.strategies import Setting
from fedplan.federation.tensors import Tensors, values_of

_BLOCK = 1 << 16
"""Numbers that are multiplied and written at once."""


class Scratch:
    """The trained tensors of diffs as rows of a matrix, in a nameless file that is gone after the block.

    They are there as float32, or as float64 if the model has a trained tensor of that, or of integers.

    Attributes:
        count: how many diffs there are.
        elements: how many numbers each has.

    Args:
        folder: where the file is; None for the system's folder for such files.
        setting: the model.
    """

    def __init__(self, folder: Path | None, setting: Setting) -> None:
        layout = [setting.changing_layout[place] for place in setting.trained]
        floats = all(dtype in ("float16", "bfloat16", "float32") for _, dtype in layout)
        self.count = 0
        self.elements = sum(math.prod(shape) for shape, _ in layout)
        self._places = setting.trained
        self._folder = folder
        self._dtype = np.dtype(np.float32 if floats else np.float64)
        self._rows: NDArray[np.float32] | NDArray[np.float64] | None = None

    def __enter__(self) -> Self:
        if self._folder is not None:
            self._folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=self._folder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._rows = None
        self._file.close()

    def add(self, diff: Tensors, factor: float = 1.0) -> None:
        """Writes a diff times a factor: of all tensors that change, the trained ones."""
        for place in self._places:
            values = values_of(diff[place]).reshape(-1)
            for start in range(0, values.size, _BLOCK):
                part = values[start : start + _BLOCK]
                self._file.write(np.multiply(part, factor, dtype=self._dtype, casting="unsafe").data)
        self.count += 1
        self._rows = None

    def columns(self, start: int, stop: int) -> NDArray[np.float32] | NDArray[np.float64]:
        """See `fedplan.federation.Reports`."""
        if self._rows is None:
            self._rows = self._mapped()
        return self._rows[:, start:stop].copy()

    def _mapped(self) -> NDArray[np.float32] | NDArray[np.float64]:
        self._file.flush()
        shape = (self.count, self.elements)
        if not self.count * self.elements:
            return np.zeros(shape, self._dtype)  # nothing can be mapped
        return np.memmap(self._file, self._dtype, "r", shape=shape)
