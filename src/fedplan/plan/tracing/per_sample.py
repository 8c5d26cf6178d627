"""The gradient of DP-SGD: of each sample, clipped, added up, with noise.

Abadi et al., "Deep learning with differential privacy", 2016, arXiv 1607.00133.
"""

import math
from collections.abc import Callable, Mapping, Sequence

import torch

from fedplan.plan.dp_sgd import DpSgd

Tensors = Mapping[str, torch.Tensor]

Measure = Callable[[Tensors, Sequence[torch.Tensor]], tuple[torch.Tensor, list[torch.Tensor]]]
"""(trained parameters, tensors of a batch) → the loss and the metrics of the batch."""

_TINY = 1e-6
"""Added to a norm before it divides: a gradient may be zero. Opacus adds the same."""


def noisy_gradients(
    measure: Measure, trained: Tensors, batch: Sequence[torch.Tensor], mask: torch.Tensor, dp: DpSgd
) -> tuple[torch.Tensor, list[torch.Tensor], dict[str, torch.Tensor]]:
    """The means over the samples that count, and what the optimizer is given.

    Args:
        measure: computes a batch; here each time of one sample.
        trained: the parameters that gradients go to, by name.
        batch: the batch's tensors: (rows, …) each.
        mask: 1 for samples that count, 0 for those that fill the batch up: (rows,).
        dp: the constants.

    Returns:
        The loss, the metrics, and by name the noisy gradients.
    """

    def of_one(
        parameters: dict[str, torch.Tensor], *sample: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        return measure(parameters, [part.unsqueeze(0) for part in sample])

    of_each = torch.func.vmap(
        torch.func.grad_and_value(of_one, has_aux=True), (None, *(0 for _ in batch)), randomness="different"
    )
    gradients, (losses, metrics) = of_each(dict(trained), *batch)
    with torch.no_grad():
        summed = _clipped_sum(gradients, mask, dp.max_grad_norm)
        noise = _noise(trained, dp)
        made = {
            name: ((summed[name] + noise[name]) if noise else summed[name]) / dp.expected_batch_size
            for name in trained
        }
        share = mask / mask.sum().clamp(min=1.0)
        loss, *means = (_mean(values, share) for values in (losses, *metrics))
    return loss, means, {name: made[name].to(tensor.dtype) for name, tensor in trained.items()}


def _clipped_sum(gradients: Tensors, mask: torch.Tensor, most: float) -> dict[str, torch.Tensor]:
    """The sum of the samples' gradients, each scaled down to a norm over all parameters together."""
    rows = {
        name: _wide(g).flatten(1) if g.dim() > 1 else _wide(g).unsqueeze(1) for name, g in gradients.items()
    }
    norms = [torch.linalg.vector_norm(row, dim=1) for row in rows.values()]  # (rows,) each
    norm = torch.linalg.vector_norm(torch.stack(norms, 1), dim=1)
    share = (most / (norm + _TINY)).clamp(max=1.0) * mask
    return {
        name: (share.to(row.dtype) @ row).reshape(gradients[name].shape[1:]) for name, row in rows.items()
    }


def _wide(gradient: torch.Tensor) -> torch.Tensor:
    """In float32 at least: squares of bfloat16 are coarse, and those of float16 overflow."""
    return gradient if gradient.dtype in (torch.float32, torch.float64) else gradient.float()


def _noise(trained: Tensors, dp: DpSgd) -> dict[str, torch.Tensor]:
    """The noise on the sum, by name; empty without.

    It is drawn in float64, whose largest number is 8.57 standard deviations; float32 would end at 6.66, which
    a million numbers show too often for a δ of 1e-5.
    """
    if dp.noise_multiplier == 0:
        return {}
    sizes = [math.prod(tensor.shape) for tensor in trained.values()]
    drawn = torch.randn(sum(sizes), dtype=torch.float64) * (dp.noise_multiplier * dp.max_grad_norm)
    parts = torch.split(drawn, sizes)
    return {
        name: part.reshape(tensor.shape).to(torch.float64 if tensor.dtype == torch.float64 else torch.float32)
        for (name, tensor), part in zip(trained.items(), parts, strict=True)
    }


def _mean(values: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    made: torch.Tensor = (values * share.to(values.dtype)).sum()
    return made.detach()
