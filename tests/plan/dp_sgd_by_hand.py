"""DP-SGD as its paper has it: a loop over samples in eager PyTorch."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedplan.plan import DpSgd


def clipped_sum(model: nn.Module, data: Tensor, target: Tensor, most: float) -> list[Tensor]:
    """The sum of the samples' clipped gradients, one after the other."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    total = [torch.zeros_like(p) for p in parameters]
    for row in range(len(data)):
        loss = F.cross_entropy(model(data[row : row + 1]), target[row : row + 1])
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.cat([g.flatten() for g in gradients]).norm()
        share = min(1.0, most / (float(norm) + 1e-6))
        total = [part + share * gradient for part, gradient in zip(total, gradients, strict=True)]
    return total


def by_hand(
    model: nn.Module, data: Tensor, target: Tensor, dp: DpSgd, rate: float, noise: Sequence[Tensor] = ()
) -> None:
    """A step of DP-SGD with the plain optimizer; `noise` is added to the sum."""
    total = clipped_sum(model, data, target, dp.max_grad_norm)
    with torch.no_grad():
        for place, parameter in enumerate(p for p in model.parameters() if p.requires_grad):
            noisy = total[place] + noise[place] if noise else total[place]
            parameter.sub_(rate * noisy / dp.expected_batch_size)


def noise_like(model: nn.Module, drawn: Tensor, dp: DpSgd) -> list[Tensor]:
    """Standard normal numbers as the noise on each trained parameter."""
    trained = [p for p in model.parameters() if p.requires_grad]
    parts = (drawn * dp.noise_multiplier * dp.max_grad_norm).split([p.numel() for p in trained])
    return [part.reshape(p.shape).to(p.dtype) for part, p in zip(parts, trained, strict=True)]
