"""What a client does with a Plan: its batches, drawn in their order before any of them runs."""

import dataclasses
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, Self

from torch import Tensor

from fedplan.client.training.batch_layout import Path, take
from fedplan.client.training.batches import BatchSource, TensorBatches
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.poisson import PoissonBatches
from fedplan.client.training.training import Training
from fedplan.errors import ConfigError, DataError
from fedplan.plan import PlanInputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Stretch:
    """Batches of one shape that come one after the other.

    Attributes:
        count: how many there are.
        rows: samples in each.
        values: for each input of the Plan that takes data or targets, in their order: (batches, rows, …).
        shape: batches run side by side if this is equal.
    """

    count: int
    rows: int
    values: Sequence[Tensor]
    shape: Hashable

    @classmethod
    def of(cls, count: int, rows: int, values: Sequence[Tensor]) -> Self:
        """A stretch of these values."""
        return cls(count, rows, values, (rows, *((value.shape[1:], value.dtype) for value in values)))


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """The batches of one client.

    Attributes:
        epochs: the batches of each epoch; there is one at least.
        size: samples in a batch, as the client was told.
    """

    epochs: Sequence[Sequence[Stretch]]
    size: int | None

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`, for the values of a batch."""
        del batch
        return [(number,) for number in range(len(specs))]

    def begun(self, batches: int) -> "Course":
        """The first batches of the first epoch."""
        found = list[Stretch]()
        for stretch in self.epochs[0]:
            count = min(stretch.count, batches - sum(before.count for before in found))
            if count:
                values = [value[:count] for value in stretch.values]
                found.append(dataclasses.replace(stretch, count=count, values=values))
        return Course([found], self.size)


def batches_of(stretches: Sequence[Stretch]) -> Iterator[list[Tensor]]:
    """The values of each batch."""
    for stretch in stretches:
        for number in range(stretch.count):
            yield [value[number] for value in stretch.values]


def length_of(stretches: Sequence[Stretch]) -> int:
    """How many batches there are."""
    return sum(stretch.count for stretch in stretches)


def course_of(training: Training, data: Any, target: Any, start: RandomState) -> Course:
    """Draws the batches of a training.

    Args:
        training: by which Plan, for how many epochs.
        data: see `Job.train`.
        target: see `Job.train`.
        start: see `Training.open`.

    Raises:
        DataError: the data cannot be used, or an epoch has no batch.
        ConfigError: there is no batch size, or the batches are Poisson batches.
        PlanInputError: a batch does not fit the Plan.
    """
    specs = [spec for spec, _ in training.wants]
    source, size = training.open(data, target, start), training.size_of(data)
    if isinstance(source, PoissonBatches):
        raise ConfigError(
            f"the Plan '{training.plan.name}' does DP-SGD, whose Poisson batches are computed for one client "
            "after the other: take engine='sequential', or 'processes'"
        )
    if specs and isinstance(source, TensorBatches):
        cut = _cut(source.samples(specs), source.batch_size, training.steps_per_epoch)
        return Course([cut] * training.epochs, size)
    return Course(list(_drawn(training, source, specs, size)), size)


def _cut(samples: Sequence[Tensor], rows: int, most: int | None) -> list[Stretch]:
    """Whole tensors as batches, the last one smaller; no more than `most`."""
    whole, left = divmod(len(samples[0]), rows)
    batches = whole if most is None else min(whole, most)
    cut = list[Stretch]()
    if batches:
        values = [c[: batches * rows].detach().view(batches, rows, *c.shape[1:]) for c in samples]
        cut.append(Stretch.of(batches, rows, values))
    if left and (most is None or whole < most):
        cut.append(Stretch.of(1, left, [column[whole * rows :].detach().unsqueeze(0) for column in samples]))
    return cut


def _drawn(
    training: Training, source: BatchSource, specs: Sequence[PlanInputSpec], size: int | None
) -> Iterator[list[Stretch]]:
    """The batches of a loader, epoch after epoch."""
    paths, items = None, [item for _, item in training.wants]
    for batches in training.batches(source):
        drawn = []
        for batch in batches:
            paths = source.locate(specs, batch) if paths is None else paths
            try:
                found = [take(batch, path) for path in paths]
            except (LookupError, TypeError) as error:
                raise DataError(
                    f"a batch has another form than the first one: data or target is not in it ({error!r})"
                ) from error
            values = [item.tensor(value) for value, item in zip(found, items, strict=True)]
            rows = (len(values[0]) if values[0].dim() else 1) if values else size or 1
            if not rows:
                raise DataError("a batch holds no sample: there is nothing to train on. Leave it out")
            drawn.append(Stretch.of(1, rows, [value.unsqueeze(0) for value in values]))
        yield drawn
