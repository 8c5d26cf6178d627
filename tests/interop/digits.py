"""Trainings on scikit-learn's digits: real images of 8 × 8 pixels, of which some are kept for testing."""

import dataclasses
import functools
from collections.abc import Callable, Sequence

import torch
from torch import nn
from torch.nn import functional

import fedplan
from fedplan.plan import with_variants

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
    """Batches with class numbers; the order of the samples follows from the seed."""
    images, labels = load()
    order = torch.randperm(len(images) - _TEST, generator=torch.Generator().manual_seed(seed))
    return [(images[chosen], labels[chosen]) for chosen in order[: count * _BATCH].split(_BATCH)]


def _one_hot_batches(seed: int, count: int) -> list[Batch]:
    return [(images, functional.one_hot(labels, 10)) for images, labels in _batches(seed, count)]


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
        batches=_one_hot_batches,
        logits=lambda p, images: (images @ p[0].T + p[1]).relu() @ p[2].T + p[3],
    )


def of_module(make: Callable[[], nn.Module], lr: float) -> DigitsTraining:
    """fedplan's own Plan of a module, translated by it."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = make()
    example = (torch.zeros(8, 64), torch.zeros(8, dtype=torch.int64))
    plan = fedplan.training_plan(module, functional.cross_entropy, example=example)
    names = [name for name, _ in module.named_parameters()]

    def logits(params: Sequence[torch.Tensor], images: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(module, dict(zip(names, params, strict=True)), (images,))

    return DigitsTraining(
        plan=with_variants(plan, variants=["tfjs"]).serialize(),
        params=tuple(parameter.detach() for parameter in module.parameters()),
        inputs=("data", "target", "lr", "params"),
        outputs=1,
        client_config={"batch_size": _BATCH, "lr": lr},
        batches=_batches,
        logits=logits,
    )


def mlp() -> nn.Module:
    """A perceptron with one hidden layer."""
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> nn.Module:
    """Two convolutions and a pooling."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 8, 8)),
        nn.Conv2d(1, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(256, 10),
    )


DIGITS = {
    "PySyft's MLP, digits": mlp_of_pysyft,
    "an MLP, digits": functools.partial(of_module, mlp, 0.5),
    "a CNN, digits": functools.partial(of_module, cnn, 0.2),
}
"""The trainings on digits by their names."""
