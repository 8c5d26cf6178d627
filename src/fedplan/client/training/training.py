"""A training in one piece, without the events, stops and checkpoints of `PlanTrainer`: the same steps."""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch

from fedplan.client.counts import positive_integer
from fedplan.client.model import SyftModel
from fedplan.client.training.batches import BatchSource, Locator, Refusal, Wants, is_loader, open_batches
from fedplan.client.training.checkpoint import RandomState
from fedplan.client.training.device import CPU
from fedplan.client.training.epochs import Epochs
from fedplan.client.training.poisson import PoissonBatches
from fedplan.client.training.specs import complete_inputs, complete_outputs
from fedplan.client.training.step import TrainingStep
from fedplan.errors import ConfigError, DataError
from fedplan.plan import Plan, PlanInputSpec, PlanOutputSpec
from fedplan.plan.requirements import refusal_of_rows


@dataclasses.dataclass(frozen=True, slots=True)
class Training:
    """What is the same for every model and all data that are trained with one Plan.

    Attributes:
        plan: what runs on each batch.
        inputs: what the Plan's inputs stand for.
        outputs: what the Plan's outputs stand for.
        client_config: values for the inputs that name one.
        epochs: how many epochs to train.
        batch_size: samples in a batch of whole tensors; a DataLoader has its own.
        steps_per_epoch: most batches in an epoch; None for all there are.
        device: where the Plan runs.
        refusal: what the Plan says to a last batch of one sample.
        wants: what the Plan takes of each batch.
    """

    plan: Plan
    inputs: Sequence[PlanInputSpec]
    outputs: Sequence[PlanOutputSpec]
    client_config: Mapping[str, Any]
    epochs: int
    batch_size: int | None
    steps_per_epoch: int | None
    device: torch.device
    refusal: Refusal
    wants: Wants

    @classmethod
    def of(
        cls,
        plan: Plan,
        client_config: Mapping[str, Any],
        *,
        inputs: Sequence[PlanInputSpec] | None = None,
        outputs: Sequence[PlanOutputSpec] | None = None,
        epochs: int = 1,
        steps_per_epoch: int | None = None,
        batch_size: int | None = None,
        device: torch.device = CPU,
    ) -> Self:
        """A training by a Plan; without specs, by one that says itself what its inputs and outputs stand for.

        Raises:
            ConfigError: nobody says it, or a number is not a positive integer.
        """
        inputs = complete_inputs(plan, inputs)
        return cls(
            plan,
            inputs,
            complete_outputs(plan, outputs, inputs),
            client_config,
            positive_integer(epochs, "epochs"),
            None if batch_size is None else positive_integer(batch_size, "the batch size"),
            None if steps_per_epoch is None else positive_integer(steps_per_epoch, "steps_per_epoch"),
            device,
            functools.cache(functools.partial(refusal_of_rows, plan)),
            _wants(plan, inputs),
        )

    def run(self, model: SyftModel, data: Any, target: Any, start: RandomState) -> TrainingStep:
        """Trains.

        Args:
            model: where the training starts; its tensors are not changed.
            data: see `Job.train`.
            target: see `Job.train`.
            start: draws the random inputs, and says the numbers of the cycle and of the first step.

        Returns:
            The step as its last batch left it, with what was trained and what was measured.

        Raises:
            PlanError: the data does not fit the Plan, or the Plan failed.
            DataError: the data cannot be used, or an epoch has no batch.
            ConfigError: there is no batch size, or the client_config lacks what the Plan takes.
        """
        source = self.open(data, target, start)
        step = self.step(model, source, self.size_of(data), start)
        for batches in self.batches(source):
            step.measurements.begin_epoch()
            for batch in batches:
                step(batch)
        return step

    def step(
        self,
        model: SyftModel,
        source: Locator,
        batch_size: int | None,
        start: RandomState,
        received: SyftModel | None = None,
    ) -> TrainingStep:
        """A step that has not run yet.

        Args:
            model: see `run`.
            source: knows where in a batch the data is.
            batch_size: for a Plan that takes a batch size and no data.
            start: see `run`.
            received: the model as it came in this cycle, where the training goes on from another one.

        Raises:
            ConfigError: the client_config lacks what the Plan takes.
        """
        return TrainingStep(
            self.plan,
            source,
            inputs=self.inputs,
            outputs=self.outputs,
            client_config=self.client_config,
            batch_size=batch_size,
            params=model.params,
            received=None if received is None else received.params,
            start=start,
            device=self.device,
        )

    def size_of(self, data: Any) -> int | None:
        """Samples in a batch of some data."""
        return batch_size_of(data, self.batch_size)

    def open(self, data: Any, target: Any, start: RandomState) -> BatchSource:
        """Where the batches come from. With DP-SGD those of whole tensors are Poisson batches.

        Args:
            data: see `Job.train`.
            target: see `Job.train`.
            start: draws Poisson batches.

        Raises:
            DataError: the data cannot be used.
            ConfigError: there is no batch size, or it is not the one that DP-SGD expects.
        """
        dp = self.plan.dp
        if dp is not None and not is_loader(data):
            if self.batch_size not in (None, dp.expected_batch_size):
                raise ConfigError(
                    f"the batch size is {self.batch_size}, and the Plan '{self.plan.name}' does DP-SGD with "
                    f"Poisson batches of {dp.expected_batch_size} samples in the mean, by which it divides: "
                    "leave batch_size out, or have the model owner leave it out of the client_config"
                )
            return PoissonBatches(data, target, dp.expected_batch_size, self.wants, start)
        return open_batches(data, target, self.size_of(data), self.wants, self.refusal)

    def batches(self, source: BatchSource) -> Iterator[Iterator[Any]]:
        """The batches of each epoch, which are to be taken before those of the next one.

        Raises:
            DataError: an epoch has none.
        """
        epochs = Epochs(source)
        for epoch in range(self.epochs):
            yield _counted(epoch, itertools.islice(epochs.open(None), self.steps_per_epoch))


def batch_size_of(data: Any, told: int | None) -> int | None:
    """Samples in a batch of some data: what a DataLoader says itself, and else what is told."""
    size: int | None = getattr(data, "batch_size", told)
    return size


def _wants(plan: Plan, inputs: Sequence[PlanInputSpec]) -> Wants:
    batch_types = (PlanInputSpec.TYPE_DATA, PlanInputSpec.TYPE_TARGET)
    declared = zip(inputs, plan.inputs, strict=True)
    return [(spec, item) for spec, item in declared if spec.type in batch_types]


def _counted(epoch: int, batches: Iterator[Any]) -> Iterator[Any]:
    """The batches of an epoch, of which there must be one."""
    number = 0
    for number, batch in enumerate(batches, 1):  # noqa: B007  # their number is what counts
        yield batch
    check_epoch(epoch, number)


def check_epoch(epoch: int, batches: int) -> None:
    """Refuses an epoch without a batch.

    Raises:
        DataError: there was none.
    """
    if batches == 0:
        raise DataError(
            f"epoch {epoch} has no batch, so there is nothing to train on. Data that can be gone through "
            "only once is used up after one epoch: let the data set's __iter__ begin anew each time"
        )
