"""What a client does with a Plan: its batches, drawn in their order before any of them runs."""

import dataclasses
from collections.abc import Hashable, Sequence
from typing import Any

from torch import Tensor

from fedplan.client.training.arguments import places_of
from fedplan.client.training.batch_layout import Path, take
from fedplan.client.training.training import Training
from fedplan.errors import DataError
from fedplan.plan import PlanInput, PlanInputSpec


@dataclasses.dataclass(frozen=True, slots=True)
class Batch:
    """The data and the targets of one batch.

    Attributes:
        rows: samples in it.
        values: a tensor for each input of the Plan that takes data or targets, in their order.
        shape: batches run side by side if this is equal.
    """

    rows: int
    values: Sequence[Tensor]
    shape: Hashable


@dataclasses.dataclass(frozen=True, slots=True)
class Course:
    """The batches of one client.

    Attributes:
        epochs: those of each epoch; none is empty.
        size: samples in a batch, as the client was told.
    """

    epochs: Sequence[Sequence[Batch]]
    size: int | None

    def locate(self, specs: Sequence[PlanInputSpec], batch: Any) -> list[Path]:
        """See `BatchSource.locate`, for the values of a batch."""
        del batch
        return [(number,) for number in range(len(specs))]


def course_of(training: Training, data: Any, target: Any) -> Course:
    """Draws the batches of a training.

    Args:
        training: by which Plan, for how many epochs.
        data: see `Job.train`.
        target: see `Job.train`.

    Raises:
        DataError: the data cannot be used, or an epoch has no batch.
        ConfigError: there is no batch size.
        PlanInputError: a batch does not fit the Plan.
    """
    places = places_of(training.inputs, PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
    items = [training.plan.inputs[place] for place in places]
    source, size = training.open(data, target), training.size_of(data)
    paths = None
    epochs = []
    for batches in training.batches(source):
        drawn = []
        for batch in batches:
            if paths is None:
                paths = source.locate([training.inputs[place] for place in places], batch)
            try:
                found = [take(batch, path) for path in paths]
            except (LookupError, TypeError) as error:
                raise DataError(
                    f"a batch has another form than the first one: data or target is not in it ({error!r})"
                ) from error
            drawn.append(_batch(found, items, size))
        epochs.append(drawn)
    return Course(epochs, size)


def _batch(found: Sequence[Any], items: Sequence[PlanInput], size: int | None) -> Batch:
    values = [
        value if type(value) is Tensor and not value.requires_grad else item.tensor(value)
        for value, item in zip(found, items, strict=True)
    ]
    if any(len(value) == 0 for value in values if value.dim()):
        raise DataError("a batch holds no sample: there is nothing to train on. Leave it out")
    rows = (len(values[0]) if values[0].dim() else 1) if values else size or 1
    return Batch(rows, values, (rows, *((value.shape, value.dtype) for value in values)))
