"""The demo's data: 1,797 handwritten digits of 8×8 pixels, which scikit-learn brings along."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn has no types

from fedplan.data import partition_iid, partition_shards

_HELD_OUT = 5
"""Of so many samples in a row a worker keeps one for evaluation."""


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images, (samples, 64) float32, and their digits, (samples,) int64."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]

    def __getitem__(self, rows: Any) -> "Samples":
        return Samples(self.images[rows], self.digits[rows])

    def __len__(self) -> int:
        return len(self.digits)


@dataclasses.dataclass(frozen=True)
class Part:
    """What one worker has.

    Attributes:
        training: samples that it trains on.
        evaluation: other samples, on which it measures the model.
    """

    training: Samples
    evaluation: Samples


def load() -> Samples:
    """All samples."""
    images, digits = load_digits(return_X_y=True)
    scaled = (images / 4 - 1).astype(np.float32)  # from 0 … 16 to −1 … 3: the mean comes close to 0
    return Samples(scaled, digits.astype(np.int64))


def deal(samples: Samples, workers: int, *, iid: bool, seed: int) -> list[Part]:
    """The workers' parts: of all digits alike, or, non-IID, of a few digits each."""
    if iid:
        rows = partition_iid(len(samples), workers, seed=seed)
    else:
        rows = partition_shards(samples.digits, workers, seed=seed)
    random = np.random.default_rng(seed)
    return [_part(samples[random.permutation(mine)]) for mine in rows]


def _part(samples: Samples) -> Part:
    kept = np.arange(len(samples)) % _HELD_OUT == 0
    return Part(samples[~kept], samples[kept])


def together(parts: Sequence[Samples], *, seed: int) -> Samples:
    """The samples of all, shuffled."""
    images, digits = (
        np.concatenate(arrays) for arrays in zip(*((part.images, part.digits) for part in parts), strict=True)
    )
    return Samples(images, digits)[np.random.default_rng(seed).permutation(len(digits))]
