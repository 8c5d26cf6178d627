"""Gradients of interpolations, by matrices.

An interpolation is a product with one matrix for each axis, so its gradient is a product with the transposed
ones. PyTorch composes only interpolations themselves of other operations.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch._decomp import decomposition_table

aten: Any = torch.ops.aten


def gradient_of_resizing(kind: str, rank: int) -> Callable[..., torch.Tensor]:
    """The gradient of an interpolation.

    Args:
        kind: `nearest`, `linear` and the like; see `_OF_AN_AXIS`.
        rank: how many axes are resized.
    """
    interpolate = _OF_AN_AXIS[kind]

    def call(gradient: torch.Tensor, size: Sequence[int], given: Sequence[int], *rest: Any) -> torch.Tensor:
        scales = rest[len(rest) - rank :] if len(rest) >= rank else (None,) * rank
        settings = rest[: len(rest) - rank]
        for axis, scale in zip(range(2, rank + 2), scales, strict=True):
            weights = interpolate(given[axis], size[axis - 2], settings, scale)  # (given, size)
            moved = gradient.movedim(axis, -1)
            lines = moved.reshape(-1, moved.shape[-1]) @ weights.T.to(gradient.dtype)  # (all others, given)
            gradient = lines.reshape(*moved.shape[:-1], given[axis]).movedim(-1, axis)
        return gradient

    return call


def _of_a_series(name: str) -> Callable[[int, int, Sequence[Any], float | None], torch.Tensor]:
    operator = getattr(aten, name).default

    def weights(given: int, size: int, settings: Sequence[Any], scale: float | None) -> torch.Tensor:
        made: torch.Tensor = decomposition_table[operator](
            torch.eye(given).unsqueeze(0), [size], *settings, scale
        )
        return made[0]

    return weights


def _cubic(given: int, size: int, settings: Sequence[Any], scale: float | None) -> torch.Tensor:
    """PyTorch has it for pictures only: these are one element wide."""
    made: torch.Tensor = decomposition_table[aten.upsample_bicubic2d.default](
        torch.eye(given).reshape(1, given, given, 1), [size, 1], *settings, scale, None
    )
    return made[0, :, :, 0]


_OF_AN_AXIS = {
    "nearest": _of_a_series("upsample_nearest1d"),
    "nearest_exact": _of_a_series("_upsample_nearest_exact1d"),
    "linear": _of_a_series("upsample_linear1d"),
    "cubic": _cubic,
}
"""For extents before and after, settings and a factor: the share that each element has, (before, after)."""
