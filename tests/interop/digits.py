"""Trainings on scikit-learn's digits: real images of 8 × 8 pixels, of which some are kept for testing."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from .trainings import Batch, Training, pysyft_mlp

_BATCH = 32
_TEST = 360


@functools.cache
def load() -> tuple[torch.Tensor, torch.Tensor]:
    """Images, 1797 × 64 from 0 to 1, and their digits, shuffled: each writer's stand together."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return torch.tensor(images / 16, dtype=torch.float32)[order], torch.tensor(labels)[order]


@dataclasses.dataclass(frozen=True)
class DigitsTraining(Training):
    """A training whose success can be measured.

    Attributes:
        logits: what the model says of images.
    """

    logits: Callable[[Sequence[torch.Tensor], torch.Tensor], torch.Tensor]

    def accuracy(self, params: Sequence[torch.Tensor]) -> float:
        """Part of the test images whose digits the model tells, in percent."""
        images, labels = load()
        said = self.logits(params, images[-_TEST:]).argmax(1)
        return 100 * (said == labels[-_TEST:]).float().mean().item()


def _batches(seed: int, count: int) -> list[Batch]:
    images, labels = load()
    order = torch.randperm(len(images) - _TEST, generator=torch.Generator().manual_seed(seed))
    return [
        (images[chosen], functional.one_hot(labels[chosen], 10))
        for chosen in order[: count * _BATCH].split(_BATCH)
    ]


def mlp_of_pysyft() -> DigitsTraining:
    """PySyft's Plan of a small perceptron, which works for a larger one as well."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((32, 64), (32,), (10, 32), (10,))
    params = [(torch.rand(shape, generator=generator) - 0.5) / shape[-1] ** 0.5 for shape in shapes]
    original = pysyft_mlp()
    return DigitsTraining(
        plan=original.plan,
        params=tuple(params),
        inputs=original.inputs,
        outputs=original.outputs,
        client_config={"batch_size": _BATCH, "lr": 0.5},
        batches=_batches,
        logits=lambda p, images: (images @ p[0].T + p[1]).relu() @ p[2].T + p[3],
    )


DIGITS = {"PySyft's MLP": mlp_of_pysyft}
"""The trainings on digits by their names."""
