"""Where a training is in its data, and how it comes back there."""

from collections.abc import Iterator
from typing import Any

from fedplan.client.training.batches import BatchSource, LoaderState


class Epochs:
    """The epochs of a training over a source of batches, one after the other.

    Attributes:
        source: where the batches come from.
    """

    def __init__(self, source: BatchSource) -> None:
        self.source = source
        self._opened = False  # whether the source is in the present epoch
        self._state: LoaderState | None = None  # how it gets there, when it is not

    def rewind(self, state: LoaderState | None = None) -> None:
        """Goes out of the present epoch: to the beginning, or to the epoch that a state was taken in."""
        self._opened, self._state = False, state

    def open(self, resume_at: int | None) -> Iterator[Any]:
        """The batches of the next epoch, or of the present one from the batch of this number on."""
        state = self.state()
        batches = self.source.open() if resume_at is None else self.source.reopen(state, resume_at)
        self._opened = True
        return batches

    def count(self, most: int | None) -> int | None:
        """Batches in an epoch that has no more than `most`; None when that is not known."""
        counts = [count for count in (self.source.count(), most) if count is not None]
        return min(counts, default=None)

    def state(self) -> LoaderState | None:
        """How another process comes into the present epoch; None when it needs nothing for that."""
        return self.source.state() if self._opened else self._state
