"""Samplers: in which order the samples of a data set come, and which of them make a batch.

A sampler has no state. The order of an epoch is a pure function of a seed and the epoch's number, so that
training can be resumed in the middle of an epoch, in another process, with the same batches.
"""

import abc
from collections.abc import Iterator, Sized

import numpy as np
import torch
import torch.utils.data
from numpy.typing import NDArray

from fedplan.data.integer import as_integer
from fedplan.errors import DataError

Indices = NDArray[np.int64]


def draw_seed() -> int:
    """A seed from torch's global generator, so that `torch.manual_seed` reaches it.

    Below 2⁵³: a checkpoint's JSON may pass through a program whose numbers are doubles.
    """
    return int(torch.randint(2**53, ()))


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed of 64 bits for all that is random in one epoch."""
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0])


class Sampler(torch.utils.data.Sampler[int], abc.ABC):
    """Which samples an epoch has, and in which order; a subclass defines `order`.

    Iterating over a sampler gives the order of an epoch of its own, a new one each time. A `DataLoader`
    asks `order` instead.

    Attributes:
        dataset: what is sampled.
    """

    def __init__(self, dataset: Sized) -> None:
        self.dataset = dataset

    @abc.abstractmethod
    def order(self, seed: int, epoch: int) -> Indices:
        """The samples of one epoch, in order.

        Args:
            seed: the loader's seed.
            epoch: number of the epoch, from 0.

        Returns:
            `length` indices into the data set; always the same for the same seed and epoch.
        """

    @property
    def length(self) -> int:
        """Samples in an epoch; all of the data set unless a subclass says otherwise."""
        return len(self.dataset)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[int]:
        return iter(self.order(draw_seed(), 0).tolist())


class SequentialSampler(Sampler):
    """Each sample once, as the data set has them."""

    def order(self, seed: int, epoch: int) -> Indices:
        """0, 1, 2 …, whatever the seed and the epoch."""
        return np.arange(self.length)


class RandomSampler(Sampler):
    """Each sample once, in an order that differs from epoch to epoch."""

    def order(self, seed: int, epoch: int) -> Indices:
        """A uniformly random permutation."""
        # Sorting raw bits instead of calling a shuffle: NumPy promises that SeedSequence and PCG64 give the
        # same bits in every version, but not that its shuffles use them the same way (NEP 19).
        bits = np.random.PCG64(epoch_seed(seed, epoch)).random_raw(self.length)
        return np.argsort(bits, kind="stable")


def batch_size_of(value: object) -> int:
    """A batch size as an int.

    Raises:
        DataError: it is no integer from 1.
    """
    number = as_integer(value)
    if number is None or number < 1:
        raise DataError(f"batch_size must be an integer from 1, not {value!r}")
    return number


class BatchSampler(torch.utils.data.Sampler[list[int]]):
    """The order of a sampler, cut into batches.

    Attributes:
        sampler: gives the order.
        batch_size: samples in a batch.
        drop_last: leave out a last batch that is smaller than `batch_size`.
    """

    def __init__(self, sampler: Sampler, batch_size: int, drop_last: bool = False) -> None:
        self.sampler = sampler
        self.batch_size = batch_size_of(batch_size)
        self.drop_last = drop_last

    def batches(self, seed: int, epoch: int, start: int = 0) -> Iterator[list[int]]:
        """The batches of one epoch, as lists of indices.

        Args:
            seed: see `Sampler.order`.
            epoch: see `Sampler.order`.
            start: number of the first batch that is wanted.
        """
        order, size = np.asarray(self.sampler.order(seed, epoch)), self.batch_size
        end = len(order) - len(order) % size if self.drop_last else len(order)
        return (order[at : at + size].tolist() for at in range(start * size, end, size))

    @property
    def length(self) -> int:
        """Batches in an epoch."""
        whole, rest = divmod(self.sampler.length, self.batch_size)
        return whole + (rest > 0 and not self.drop_last)

    def __len__(self) -> int:
        return self.length

    def __iter__(self) -> Iterator[list[int]]:
        return self.batches(draw_seed(), 0)
