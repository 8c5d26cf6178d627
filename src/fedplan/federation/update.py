"""What a worker reports of a cycle, and how much of it counts."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

from fedplan.federation.tensors import Reach, Tensors
from fedplan.wire import MetricMean, Summary, WireTensor
from fedplan.wire.summary import MOST_TOLD, NOTHING_TOLD


def counted_of(summary: Summary, staleness: int) -> Summary:
    """What is counted of a summary in the cycle that its report goes into.

    An evaluation is of the model as the worker received it. When that was an earlier checkpoint, it is left
    out: it would be taken for one of the checkpoint with which the cycle began.
    """
    return dataclasses.replace(summary, evaluation={}) if staleness and summary.evaluation else summary


@dataclasses.dataclass(frozen=True, slots=True)
class Update:
    """A worker's report. Updates add; see `Sums`.

    Attributes:
        tensors: the diff, original − trained: the tensors of the model that change, in its order.
        summary: what the worker told beside it.
        staleness: how many checkpoints the model has had since the worker received it.
        reach: of the tensors, if it is known already; see `reach_of`.
    """

    tensors: Tensors
    summary: Summary = NOTHING_TOLD
    staleness: int = 0
    reach: Reach | None = None

    @property
    def counted(self) -> Summary:
        """What is counted of the summary; see `counted_of`."""
        return counted_of(self.summary, self.staleness)


@dataclasses.dataclass(frozen=True, slots=True)
class UpdateBlock:
    """Several updates, with their tensors laid side by side.

    Attributes:
        tensors: those of an `Update`, each with a first axis of the updates.
        summaries: what each worker told.
        staleness: of all of them.
    """

    tensors: Tensors
    summaries: Sequence[Summary]
    staleness: int = 0

    @property
    def counted(self) -> Sequence[Summary]:
        """What is counted of each summary; see `counted_of`."""
        return [counted_of(summary, self.staleness) for summary in self.summaries]

    def __len__(self) -> int:
        return len(self.summaries)

    def __iter__(self) -> Iterator[Update]:
        for number, summary in enumerate(self.summaries):
            own = tuple(WireTensor(tensor.array[number], tensor.dtype) for tensor in self.tensors)
            yield Update(own, summary, self.staleness)


@dataclasses.dataclass(frozen=True, slots=True)
class Contribution:
    """What a strategy makes of an update before it is added.

    Attributes:
        factor: by which the trained tensors of the diff are multiplied.
        numbers: by name, further numbers that are averaged with the tensors.
        metrics: by name, metrics that the grid itself measured of the update.
    """

    factor: float = 1.0
    numbers: Mapping[str, float] = dataclasses.field(default_factory=dict)
    metrics: Mapping[str, MetricMean] = dataclasses.field(default_factory=dict)


UNCHANGED = Contribution()
"""An update counts as it is."""


@dataclasses.dataclass(frozen=True, slots=True)
class Weighting:
    """How much an update counts beside the others.

    Attributes:
        by_samples: by the number of samples that the worker tells; else all count the same.
        untold: what a worker counts that tells no number. None: the mean of those of the cycle that tell.
        most: no worker counts more; None for no bound.
    """

    by_samples: bool
    untold: float | None = None
    most: float | None = None

    def weight(self, summary: Summary) -> float | None:
        """How much a report counts; None when the reports that tell it decide."""
        if not self.by_samples:
            return 1.0
        samples = self.untold if summary.samples is None else summary.samples
        return None if samples is None else self.bounded(samples)

    @property
    def largest(self) -> float:
        """No report counts more."""
        return self.bounded(MOST_TOLD) if self.by_samples else 1.0

    def bounded(self, weight: float) -> float:
        """A weight, but no more than one report may count."""
        return weight if self.most is None else min(weight, self.most)


UNIFORM = Weighting(by_samples=False)
"""All updates count the same."""
