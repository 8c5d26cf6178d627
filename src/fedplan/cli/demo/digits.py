"""The demo's data: 1,797 handwritten digits of 8×8 pixels, which scikit-learn brings along."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits  # type: ignore[import-untyped]  # scikit-learn has no types
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]

from fedplan.data import partition_iid, partition_shards

_TEST = 360
_SPLIT_SEED = 0  # the test set is the same in each run, whatever the seed of the run


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images, (samples, 64) float32, and their digits, (samples,) int64."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]

    def __getitem__(self, rows: Any) -> "Samples":
        return Samples(self.images[rows], self.digits[rows])

    def __len__(self) -> int:
        return len(self.digits)


def load() -> tuple[Samples, Samples]:
    """The training and the test samples: 1,437 and 360, with the same share of each digit."""
    images, digits = load_digits(return_X_y=True)
    scaled = (images / 4 - 1).astype(np.float32)  # from 0 … 16 to −1 … 3: the mean comes close to 0
    everything = Samples(scaled, digits.astype(np.int64))
    train, test = train_test_split(
        np.arange(len(everything)), test_size=_TEST, random_state=_SPLIT_SEED, stratify=digits
    )
    return everything[train], everything[test]


def deal(samples: Samples, workers: int, *, iid: bool, seed: int) -> list[Samples]:
    """The workers' parts: of all digits alike, or, non-IID, of a few digits each."""
    if iid:
        parts = partition_iid(len(samples), workers, seed=seed)
    else:
        parts = partition_shards(samples.digits, workers, seed=seed)
    return [samples[part] for part in parts]
