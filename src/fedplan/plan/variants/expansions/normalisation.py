"""Normalisations, said with arithmetic."""

import torch
from torch import Tensor


def batch_norm_no_training(
    x: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    running_mean: Tensor,
    running_var: Tensor,
    momentum: float,
    eps: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """By statistics that stay as they are; of the batch's own there are none."""
    scale = torch.rsqrt(running_var + eps)
    scale = scale if weight is None else scale * weight
    offset = -running_mean * scale if bias is None else bias - running_mean * scale
    rows = [-1, *[1] * (x.dim() - 2)]  # (channels, 1, …)
    none = torch.full([0], 0.0, dtype=x.dtype)
    return x * scale.reshape(rows) + offset.reshape(rows), none, none


def var_mean(
    x: Tensor, dim: list[int] | None = None, *, correction: float | None = None, keepdim: bool = False
) -> tuple[Tensor, Tensor]:
    """The two of them, one by one."""
    return x.var(dim, correction=correction, keepdim=keepdim), x.mean(dim, keepdim=keepdim)
