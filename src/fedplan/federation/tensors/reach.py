"""How far a tensor's values reach: enough to see, of nearly every diff, that the trained model can exist."""

from collections.abc import Sequence

import numpy as np

from fedplan.federation.tensors.layout import Layout
from fedplan.federation.tensors.numbers import values_of
from fedplan.wire import DTYPES, WireTensor

Reach = tuple[float, ...]
"""The largest magnitude in each tensor."""


def reach_of(tensors: Sequence[WireTensor]) -> Reach:
    """The reach of tensors: not finite where a value is not."""
    return tuple(_largest(tensor) for tensor in tensors)


def is_within(model: Reach, diff: Reach, layout: Layout) -> bool:
    """Whether the model minus the diff can be written in the model's dtypes, whatever else is in the two.

    False says nothing: `apply` finds out.
    """
    return all(a + b <= _limit(dtype) / 2 for a, b, (_, dtype) in zip(model, diff, layout, strict=True))


def _largest(tensor: WireTensor) -> float:
    values = values_of(tensor)
    return 0.0 if values.size == 0 else max(float(values.max()), -float(values.min()))


def _limit(dtype: str) -> float:
    storage = DTYPES[dtype].storage
    if dtype == "bfloat16":
        return float(np.finfo(np.float32).max) / 2
    return float(np.finfo(storage).max if storage.kind == "f" else np.iinfo(storage).max)
