"""What a strategy remembers from cycle to cycle, such as moments. It belongs to a checkpoint."""

import dataclasses
import io
import zipfile
from collections.abc import Mapping, Sequence
from typing import Self

import numpy as np

from fedplan.errors import AggregationError
from fedplan.federation.tensors import Float64s


@dataclasses.dataclass(frozen=True, slots=True)
class ServerState:
    """Named lists of arrays. A strategy that remembers nothing has an empty one.

    Attributes:
        tensors: by name, one array for each tensor that the strategy works on, float64.
    """

    tensors: Mapping[str, Sequence[Float64s]] = dataclasses.field(default_factory=dict)

    def serialize(self) -> bytes:
        """The state as bytes: NumPy's ``.npz``. Equal states give equal bytes."""
        file = io.BytesIO()
        named = {f"{name}.{i}": a for name, arrays in self.tensors.items() for i, a in enumerate(arrays)}
        np.savez(file, **named)  # type: ignore[arg-type]  # its stub takes the names for options
        return file.getvalue()

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            AggregationError: it is something else.
        """
        found: dict[str, list[Float64s]] = {}
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                for name in arrays.files:  # in the order in which they were written
                    found.setdefault(name.rpartition(".")[0], []).append(arrays[name])
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise AggregationError("the stored state of the strategy is damaged") from error
        return cls(found)
