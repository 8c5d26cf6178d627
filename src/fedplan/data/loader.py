"""DataLoader: a data set as batches, epoch after epoch, and again from the middle of one."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
import torch.utils.data

from fedplan.data.batch import collate as collate_samples
from fedplan.data.dataset import rows_of
from fedplan.data.integer import as_integer
from fedplan.data.sampler import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    batch_size_of,
    draw_seed,
    epoch_seed,
)
from fedplan.errors import DataError

Collate = Callable[[list[Any]], Any]


class Samples(Protocol):
    """What a loader can load: a `Dataset`, any map-style data set of torch, or a list of samples."""

    def __getitem__(self, index: int, /) -> Any:
        """The sample at `index`."""

    def __len__(self) -> int:
        """Number of samples."""


class DataLoader:
    """Fetches samples, in a new order each epoch, and puts them into batches.

    Each `iter(loader)` begins the next epoch. Its order depends on `seed` and on the epoch's number alone,
    so a loader that was restored in another process goes on with the very same batches::

        loader = DataLoader(dataset, batch_size=32)
        for images, labels in loader: ...               # stops after 7 batches
        state = loader.state()                          # {"seed": …, "epoch": 0}

        loader = DataLoader(dataset, batch_size=32)     # later, elsewhere
        loader.restore(state)
        for images, labels in loader.batches(7): ...    # the rest of epoch 0
        for images, labels in loader: ...               # epoch 1

    Fetching is done by `torch.utils.data.DataLoader`, one for each epoch. A data set that has
    `get_batch(indices)` makes whole batches itself (see `TensorDataset`), unless `collate` is given.

    Differs from the reference: an epoch can be iterated as often as wanted, and not only once.

    Attributes:
        dataset: what is loaded.
        batch_size: samples in a batch.
        shuffle: whether the order is random; without effect when a sampler was given.
        drop_last: whether a last batch smaller than `batch_size` is left out.
        sampler: gives the order of each epoch.
        collate: makes a batch of samples; None for `fedplan.data.collate`.
        num_workers: processes that fetch ahead; 0 fetches in this one.
    """

    def __init__(
        self,
        dataset: Samples,
        batch_size: int = 1,
        shuffle: bool = True,
        drop_last: bool = False,
        *,
        seed: int | None = None,
        sampler: Sampler | None = None,
        collate: Collate | None = None,
        num_workers: int = 0,
    ) -> None:
        """Makes a loader.

        Args:
            dataset: a `Dataset`, any map-style data set of torch, or a list of samples.
            batch_size: samples in a batch.
            shuffle: draw a new random order for each epoch.
            drop_last: leave out a last batch that is smaller than `batch_size`.
            seed: decides the orders; drawn from torch's global generator when None.
            sampler: decides the order instead of `shuffle`.
            collate: makes a batch of a list of samples; `fedplan.data.collate` by default.
            num_workers: processes that fetch ahead, started anew for each epoch; 0 fetches in this one.

        Raises:
            DataError: the data set cannot be used, or gives not a single batch; or a number is none.
        """
        _check_dataset(dataset)
        self.dataset = dataset
        self.batch_size = batch_size_of(batch_size)
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.sampler = sampler or (RandomSampler(dataset) if shuffle else SequentialSampler(dataset))
        self.collate = collate
        self.num_workers = _natural(num_workers, "num_workers")
        self._seed = draw_seed() if seed is None else _natural(seed, "seed")
        self._epoch = -1  # none has begun
        if self.length == 0:
            raise DataError(
                f"{self.sampler.length} samples make no batch of {batch_size} "
                f"(drop_last={drop_last}): there is nothing to train on"
            )

    @property
    def length(self) -> int:
        """Batches in an epoch."""
        return self.batch_sampler.length

    @property
    def batch_sampler(self) -> BatchSampler:
        """Which samples make which batch."""
        return BatchSampler(self.sampler, self.batch_size, self.drop_last)

    @property
    def epoch(self) -> int:
        """Number of the epoch that is or was last iterated, from 0; −1 before the first."""
        return self._epoch

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[Any]:
        """Starts the next epoch, in an order of its own, and gives its batches."""
        self._epoch += 1
        return self.batches()

    def batches(self, start: int = 0) -> Iterator[Any]:
        """The batches of the current epoch, from the one numbered `start` on.

        The current epoch is the one that is or was last iterated, or the one that was restored; the first
        when there was none. The samples of skipped batches are not fetched.

        Raises:
            DataError: `start` is negative or beyond the end of the epoch.
        """
        if not 0 <= start <= self.length:
            raise DataError(f"there is no batch {start} in an epoch of {self.length} batches")
        self._epoch = max(self._epoch, 0)
        indices = self.batch_sampler.batches(self._seed, self._epoch, start)
        # A generator of our own: torch would otherwise draw from its global one, and a training that uses
        # that one too would depend on how often it was resumed.
        generator = torch.Generator().manual_seed(epoch_seed(self._seed, self._epoch))
        batches = torch.utils.data.DataLoader(
            _Batches(self.dataset, self.collate),
            batch_size=None,  # `_Batches` makes the batches
            sampler=indices,
            collate_fn=_as_it_is,
            num_workers=self.num_workers,
            generator=generator,
        )
        return iter(batches)

    def state(self) -> dict[str, int]:
        """What `restore` needs to come back to the current epoch, as JSON: ``seed`` and ``epoch``."""
        return {"seed": self._seed, "epoch": self._epoch}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes to the epoch of a `state`: `batches` continues it, `iter` begins the one after it.

        Raises:
            DataError: `state` is not what `state()` gives.
        """
        seed, epoch = state.get("seed"), state.get("epoch")
        self._seed, self._epoch = _natural(seed, "seed"), _natural(epoch, "epoch", least=-1)


@dataclasses.dataclass(frozen=True)
class _Batches(torch.utils.data.Dataset[Any]):
    """Batches by their lists of indices: what torch's loader fetches, in this process or in others."""

    dataset: Samples
    collate: Collate | None

    def __getitem__(self, indices: list[int]) -> Any:
        dataset = self.dataset
        if self.collate is None:
            if hasattr(dataset, "get_batch"):
                return dataset.get_batch(indices)
            if type(dataset) is torch.utils.data.TensorDataset:  # a subclass may have other samples
                return rows_of(dataset.tensors, indices)
        if hasattr(
            dataset, "__getitems__"
        ):  # torch's name for many at once; `datasets` of Hugging Face has it
            samples = dataset.__getitems__(indices)
        else:
            samples = [dataset[index] for index in indices]
        return collate_samples(samples, indices) if self.collate is None else self.collate(samples)


def _as_it_is(batch: Any) -> Any:
    return batch


def _check_dataset(dataset: object) -> None:
    if not (hasattr(dataset, "__getitem__") and hasattr(dataset, "__len__")):
        raise DataError(
            f"a {type(dataset).__name__} cannot be loaded: samples are fetched by their number, in any "
            "order, so a data set needs __getitem__ and __len__. Subclass fedplan.data.Dataset"
        )


def _natural(value: object, name: str, least: int = 0) -> int:
    number = as_integer(value)
    if number is None or number < least:
        raise DataError(f"a loader's {name} must be an integer from {least}, not {value!r}")
    return number
