"""What a training measures of itself: samples, steps, and the means of its loss and metrics."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

from torch import Tensor

from fedplan.errors import CheckpointError
from fedplan.wire import MetricMean, Summary
from fedplan.wire.summary import MOST_METRICS, fault_of_name

_PENDING = 64
"""Batches whose numbers are added up together: to fetch one from an accelerator waits for the device."""


@dataclasses.dataclass(slots=True)
class Measurements:
    """Sums over the batches of a training, from its first one on.

    Attributes:
        steps: batches that were trained on.
        samples: in the longest epoch so far: as many different samples at least were trained on.
        epoch_samples: in the present epoch.
        totals: by name, of the loss and of each metric that is one number, the sum over samples.
        weights: by name, over how many.
    """

    steps: int = 0
    samples: int = 0
    epoch_samples: int = 0
    totals: dict[str, float] = dataclasses.field(default_factory=dict)
    weights: dict[str, float] = dataclasses.field(default_factory=dict)
    _names: Sequence[str] = ()
    _pending: list[tuple[int, Sequence[Any]]] = dataclasses.field(default_factory=list)

    def begin_epoch(self) -> None:
        """The next batch is an epoch's first."""
        self.epoch_samples = 0

    def add(self, rows: int, names: Sequence[str], values: Sequence[Any]) -> None:
        """Takes a batch in.

        Args:
            rows: its samples.
            names: of the loss and the metrics of the batch; of two of one name, the last counts.
            values: one for each name, as numbers or as tensors that nothing writes to; those that are no
                single number do not count.
        """
        self.steps += 1
        self.epoch_samples += rows
        self.samples = max(self.samples, self.epoch_samples)
        if names is not self._names or len(self._pending) == _PENDING:
            self._settle()
            self._names = names
        self._pending.append((rows, values))

    def copy(self) -> Self:
        """One that goes on for itself."""
        self._settle()
        return dataclasses.replace(self, totals=dict(self.totals), weights=dict(self.weights), _pending=[])

    def means(self) -> dict[str, float]:
        """By name, the loss's and each metric's mean over the samples; it may be infinite, or NaN."""
        self._settle()
        return {name: total / self.weights[name] for name, total in self.totals.items()}

    def summary(self) -> Summary:
        """What is told of the training. A mean that is not finite is left out: it cannot be added up."""
        means = {
            name: MetricMean(mean, self.weights[name])
            for name, mean in self.means().items()
            if math.isfinite(mean) and fault_of_name(name) is None
        }
        kept = dict(list(means.items())[:MOST_METRICS])
        return Summary(float(self.samples) if self.samples else None, self.steps or None, kept)

    def to_dict(self) -> dict[str, Any]:
        """As it stands in a checkpoint's JSON."""
        self._settle()
        return {
            "steps": self.steps,
            "samples": self.samples,
            "epochSamples": self.epoch_samples,
            "totals": dict(self.totals),
            "weights": dict(self.weights),
        }

    @classmethod
    def from_dict(cls, told: Mapping[str, Any]) -> Self:
        """Reads what `to_dict` gave.

        Raises:
            CheckpointError: something in it is missing or wrong.
        """
        try:
            numbers = {name: {k: float(v) for k, v in told[name].items()} for name in ("totals", "weights")}
            if numbers["totals"].keys() != numbers["weights"].keys():
                raise ValueError("totals and weights name different metrics")
            steps, samples, epoch = (int(told[name]) for name in ("steps", "samples", "epochSamples"))
            return cls(steps, samples, epoch, numbers["totals"], numbers["weights"])
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise CheckpointError(f"the checkpoint's measurements cannot be used: {error!r}") from None

    def _settle(self) -> None:
        """Adds up what is pending, name by name: a loop over one list takes the least time."""
        rows = [count for count, _ in self._pending]
        columns = zip(*(values for _, values in self._pending), strict=True)
        for name, column in dict(zip(self._names, columns, strict=False)).items():
            total, weight = self.totals.get(name, 0.0), self.weights.get(name, 0.0)
            for value, count in zip(column, rows, strict=True):
                if type(value) is float or (isinstance(value, Tensor) and value.numel() == 1):
                    total += float(value) * count
                    weight += count
            if weight:
                self.totals[name], self.weights[name] = total, weight
        self._pending.clear()


def told_of_evaluation(measured: Summary) -> Summary:
    """What a worker tells that has measured the model as it received it.

    Args:
        measured: what its evaluation Plan's run has measured of itself.
    """
    return Summary(samples=measured.samples, evaluation=measured.metrics)


def told_of_training(trained: Summary | None, evaluation: Summary | None) -> Summary:
    """What a worker tells that has trained.

    Args:
        trained: what the training has measured of itself; None when that is not known. The samples of an
            evaluation say nothing of a training, and a report must not weigh as much as they are.
        evaluation: what is told of the evaluation before, if there was one.
    """
    return dataclasses.replace(
        trained or Summary(), evaluation={} if evaluation is None else evaluation.evaluation
    )
