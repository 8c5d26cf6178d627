"""Poisson batches: each sample is in each batch by a lot of its own, which the worker draws from its seed."""

import itertools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from fedplan.client.training.batch_layout import Path
from fedplan.client.training.batches import LoaderState, TensorBatches, Wants
from fedplan.client.training.checkpoint import RandomState
from fedplan.errors import CheckpointError
from fedplan.plan import PlanInputSpec

LOTS = 1 << 63
"""The number under which lots are drawn; random inputs of Plans have 0, 1, 2 …. See docs/randomness.md."""

_EPOCH = "poissonEpoch"


class PoissonBatches:
    """Poisson batches of whole tensors, filled up to one of a few sizes.

    A batch has any number of samples, also none. It is filled up to the next multiple of √(expected size)
    with rows that its mask leaves out, so that a Plan meets about eight sizes, and not a hundred. They are
    copies of the first sample: a Plan computes with them, and what is not finite would not go away by a zero
    of the mask.

    An epoch has as many batches as fixed ones of the expected size would be, to the nearest.

    Attributes:
        samples: how many there are.
        rate: the chance of each sample to be in a batch: the expected size over `samples`, 1 at most.
    """

    def __init__(self, data: Any, target: Any, expected: int, wants: Wants, start: RandomState) -> None:
        """Batches.

        Args:
            data: see `open_batches`.
            target: see `open_batches`.
            expected: the mean number of samples in a batch.
            wants: what the Plan takes of the batches.
            start: holds the worker's seed, and the number of the cycle.

        Raises:
            DataError: data and target cannot be used.
        """
        self._specs = [spec for spec, _ in wants]
        self._columns = TensorBatches(data, target, expected, wants).samples(self._specs)
        self.samples = len(self._columns[0])
        self.rate = min(1.0, expected / self.samples)
        self._size = max(1, round(math.sqrt(expected)))
        self._stream, self._cycle = start.stream, start.cycle or 0
        self._epoch = -1

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`; a batch is a flat tuple of what the Plan takes, and the mask."""
        return [(self._specs.index(spec),) for spec in specs]

    def open(self) -> Iterator[Any]:
        """See `BatchSource.open`."""
        self._epoch += 1
        return self._batches(0)

    def reopen(self, state: LoaderState | None, start: int) -> Iterator[Any]:
        """See `BatchSource.reopen`."""
        epoch = self._epoch + 1 if state is None else state.get(_EPOCH)
        if not isinstance(epoch, int) or epoch < 0:
            raise CheckpointError(
                "the checkpoint's training had batches of another kind, and not Poisson batches: resume with "
                "the data in the form that it had before"
            )
        self._epoch = epoch
        return self._batches(start)

    def state(self) -> LoaderState:
        """See `BatchSource.state`: lots follow from the seed and the number of the batch."""
        return {_EPOCH: self._epoch}

    def count(self) -> int:
        """See `BatchSource.count`."""
        return max(1, round(1 / self.rate))

    def _batches(self, start: int) -> Iterator[Any]:
        first = self._epoch * self.count()
        return map(self._batch, itertools.islice(range(first, first + self.count()), start, None))

    def _batch(self, number: int) -> tuple[Tensor, ...]:
        """The batch of this number in the cycle."""
        lots = self._stream.uniform(
            (self.samples,), cycle=self._cycle, step=number, number=LOTS, dtype=torch.float64
        )
        chosen = (lots < self.rate).nonzero().flatten()
        count = len(chosen)
        rows = max(1, math.ceil(count / self._size)) * self._size
        places = torch.cat([chosen, chosen.new_zeros(rows - count)])
        mask = torch.zeros(rows)
        mask[:count] = 1.0
        return (*(column.index_select(0, places.to(column.device)) for column in self._columns), mask)
