"""Elements chosen by truth values, said with a choice between tensors."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def index_put(x: Tensor, indices: Sequence[Tensor | None], values: Tensor, accumulate: bool = False) -> Any:
    """Writes one value, or one for each element behind the mask, where a mask is true.

    Returns:
        The tensor written to; NotImplemented for places that are numbers, and for values of which each true
        element takes the next one.
    """
    if len(indices) != 1 or indices[0] is None or indices[0].dtype != torch.bool:
        return NotImplemented
    mask = indices[0]
    behind = x.dim() - mask.dim()
    if values.dim() > behind and values.shape[0] != 1:  # (true elements, …)
        return NotImplemented
    written = values if values.dim() <= behind else values.squeeze(0)
    written = x + written if accumulate else written
    return torch.where(mask.reshape(*mask.shape, *[1] * behind), written, x)
