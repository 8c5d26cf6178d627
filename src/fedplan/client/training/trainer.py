"""PlanTrainer: the training loop around a Plan."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from fedplan.client.cycle.place import Place, check_cycle
from fedplan.client.events import (
    TRAINING_EVENTS,
    BatchEnd,
    BatchStart,
    EpochEnd,
    EpochStart,
    Events,
    Handler,
    Observed,
    TrainingEnd,
    TrainingStart,
    TrainingStop,
)
from fedplan.client.loops.background import BackgroundRun
from fedplan.client.model import SyftModel
from fedplan.client.plain import plain_config
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint, RandomState, check_checkpoint
from fedplan.client.training.device import Device, usable_device
from fedplan.client.training.epochs import Epochs
from fedplan.client.training.specs import Inputs, Outputs, complete_inputs, complete_outputs
from fedplan.client.training.step import TrainingStep, copied
from fedplan.client.training.training import Training, batch_size_of, check_epoch
from fedplan.errors import CheckpointError, ConfigError, JobStateError, ModelMismatchError
from fedplan.federation.privacy import ExamplePrivacy
from fedplan.plan import Plan, RandomStream
from fedplan.plan.roles import private_tensors
from fedplan.wire import Summary

_BETWEEN_TURNS = 1e-3
"""Seconds for which a training may keep the event loop to itself; a batch that takes longer may be one."""


class PlanTrainer(Observed):
    """Contains the training loop. `Job.train` makes one and starts it.

    The Plan runs in the event loop's own thread: handing a batch to another thread costs more than a small
    Plan does. Between two batches every other coroutine that is ready has its turn, unless the last turn was
    less than a millisecond ago: to give one costs as much as a part of a small Plan. An exception, also one
    of an event handler, ends the training (which can be resumed) and reaches whoever awaits `start`,
    `resume` or `wait`; when nobody does, asyncio logs it.

    Differs from the reference:

    - `steps_per_epoch` batches are run in an epoch, not one more; the second epoch over a DataLoader is as
      long as the first; a last, smaller batch is used, and the Plan is given its real size.
    - a checkpoint that is made in a `batch_end` handler goes on after that batch, and does not repeat it.
    - `current_model` is never None: before the first batch it equals `original_model`.
    - `stop` works without a running training too, and returns at once.
    - `start` raises while the training runs, and `resume` when it is not stopped.

    Events: `start`, `end`, `stop`, `epoch_start`, `epoch_end`, `batch_start`, `batch_end`.

    Attributes:
        original_model: the model before training.
        epoch: number of the current epoch, from 0.
        batch_idx: number of the current batch in the epoch, from 0.
        stopped: whether the training is stopped, or told to stop.
        plan: what runs on each batch.
        epochs: how many epochs to train.
        batch_size: samples in a batch; None when a DataLoader without one decides.
        steps_per_epoch: most batches in an epoch; None for all there are.
        client_config: the client config.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        model: SyftModel,
        data: Any,
        target: Any = None,
        inputs: Inputs = None,
        outputs: Outputs = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        client_config: Mapping[str, Any] | None = None,
        checkpoint: PlanTrainerCheckpoint | None = None,
        events: Mapping[str, Handler] | None = None,
        worker: object = None,
        seed: int | None = None,
        cycle: int | None = None,
        device: Device = None,
        place: Place | None = None,
    ) -> None:
        """Makes a trainer, which does not run yet.

        Args:
            plan: what to run on each batch.
            model: where the training starts; its tensors are not changed.
            data: see `Job.train`.
            target: see `Job.train`.
            inputs: what the Plan's inputs stand for; the Plan's own specs by default.
            outputs: what the Plan's outputs stand for; the Plan's own specs by default.
            epochs: how many epochs to train; 1 by default.
            batch_size: samples in a batch; not needed with a DataLoader.
            steps_per_epoch: most batches in an epoch; all by default.
            client_config: values for the inputs that name one.
            checkpoint: where to go on; `start(resume=True)` does.
            events: handlers by event name.
            worker: the `Syft` client.
            seed: for the Plan's random inputs, an integer from 0 to 2¹²⁸ − 1; from the operating system by
                default. The same seed gives the same numbers in the same cycle and step.
            cycle: number of the cycle, 1 being the first of the model on its grid: for Plans that read it,
                and for the random inputs, which are those of cycle 0 without.
            device: where the Plan runs, such as ``"cuda"``; the CPU by default. Data is moved there batch by
                batch; models and checkpoints are on the CPU.
            place: the worker's place in a cycle, which checkpoints note.

        Raises:
            ConfigError: specs, a key of the client config, the batch size, the seed or the cycle are missing
                or wrong, or there is no such device.
            DataError: data and target cannot be used.
            ModelMismatchError: the specs mean parameters that the model does not have.
            CheckpointError: the checkpoint is not of this model and Plan.
            UnknownEventError: `events` holds a name that does not exist.
        """
        if not isinstance(plan, Plan) or not isinstance(model, SyftModel):
            kinds = f"a {type(plan).__name__} and a {type(model).__name__}"
            raise ConfigError(f"a training takes a Plan and a SyftModel, not {kinds}")
        self.worker, self.plan = worker, plan
        self.original_model = model
        self.epochs = 1 if epochs is None else epochs
        self.batch_size = batch_size_of(data, batch_size)
        self.steps_per_epoch = steps_per_epoch
        self.client_config = plain_config(client_config or {}, "client_config")
        self.epoch, self.batch_idx, self.stopped = 0, 0, False
        self._data, self._target = data, target
        self._inputs = complete_inputs(plan, inputs, len(model.params))
        self._outputs = complete_outputs(plan, outputs, self._inputs)
        self._events = Events(*TRAINING_EVENTS)
        self._events.on_each(events or {})
        self._done = 0  # batches of the epoch that are trained; in batch_end handlers batch_idx is one less
        self._private = model.private or private_tensors([plan])
        self._device, self._place = usable_device(device), place
        self._start = RandomState(RandomStream() if seed is None else RandomStream(seed), cycle, 0)
        self._run = BackgroundRun()
        self._training: Training
        self._epochs: Epochs
        self._step: TrainingStep
        if checkpoint is None:
            self._prepare(model.params, self._start)
        else:
            self.apply_checkpoint(checkpoint)

    def _prepare(self, params: Sequence[Tensor], start: RandomState) -> None:
        self._training = self._as_told()
        self._epochs = Epochs(self._training.open(self._data, self._target, start))
        self._begin_with(params, start)

    def _as_told(self) -> Training:
        """The training that the attributes describe now; in them, counts become plain integers."""
        training = Training.of(
            self.plan,
            self.client_config,
            inputs=self._inputs,
            outputs=self._outputs,
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.batch_size,
            device=self._device,
        )
        self.epochs, self.batch_size = training.epochs, training.batch_size
        self.steps_per_epoch = training.steps_per_epoch
        return training

    def _begin_with(self, params: Sequence[Tensor], start: RandomState) -> None:
        """Makes a step that begins with copies of these parameters."""
        self._step = self._training.step(
            SyftModel(params), self._epochs.source, self.batch_size, start, received=self.original_model
        )

    @property
    def batches_per_epoch(self) -> int | None:
        """How many batches an epoch has; None when the DataLoader does not know."""
        return self._epochs.count(self.steps_per_epoch)

    @property
    def summary(self) -> Summary:
        """What the training has measured so far: samples, steps, and the means of its loss and metrics.

        `samples` counts those of the longest epoch. `Job.report` tells it. With DP-SGD it holds no means.
        """
        return self._step.summary

    @property
    def example_privacy(self) -> ExamplePrivacy | None:
        """What the training has spent so far of its examples' privacy; None without DP-SGD."""
        return self._step.example_privacy

    @property
    def means(self) -> dict[str, float]:
        """By name, the means over samples of the loss (``loss``) and of each metric that is one number.

        All of them, also with DP-SGD: in `summary` those are left out that are not finite.
        """
        return self._step.measurements.means()

    @property
    def current_model(self) -> SyftModel:
        """The model as trained so far: a copy, which further batches do not change.

        Read it in the event loop, where no batch is under way; another thread might see half of an update.
        """
        return SyftModel(copied(self._step.params))

    async def start(self, resume: bool = False) -> None:
        """Trains, and returns when the training has ended or was stopped. Cancelling it stops the training.

        Args:
            resume: go on where a stopped training is, instead of starting from the original model.

        Raises:
            JobStateError: the training runs already.
            PlanError: the data does not fit the Plan, or the Plan failed.
            DataError: a batch cannot be used, or an epoch has none.
        """
        await self.begin(resume)

    def begin(self, resume: bool = False) -> asyncio.Task[None]:
        """Starts the training in the next turn of the running event loop, and does not wait for it.

        Args:
            resume: see `start`.

        Returns:
            The task that trains; `wait` waits for it too.

        Raises:
            JobStateError: the training runs already, or no event loop is running.
        """
        self._run.check_can_begin()
        resume = resume and self.stopped
        if not resume:
            self.epoch = self.batch_idx = self._done = 0
            self._epochs.rewind()
            self._training = self._as_told()
            self._begin_with(self.original_model.params, self._start)
        self.stopped = False
        return self._run.begin(self._train(resume))

    async def wait(self) -> SyftModel:
        """Waits until the training has ended or was stopped. Cancelling it does not stop the training.

        Returns:
            The trained model.

        Raises:
            JobStateError: the training was not started, or a handler of the training itself waits for it.
            FedplanError: what ended the training.
        """
        await self._run.result()
        return self.current_model

    async def stop(self) -> PlanTrainerCheckpoint:
        """Stops the training before the next batch and returns a checkpoint to resume it from.

        It may be awaited in any event loop and thread (`asyncio.run(trainer.stop())` in another thread), and
        in the training's own handlers, where it returns without waiting for the stop.
        """
        self.stopped = True
        await self._run.ended()
        return self.create_checkpoint()

    def stop_blocking(self) -> PlanTrainerCheckpoint:
        """`stop` for a thread without an event loop.

        Raises:
            JobStateError: called in the thread that trains, which would wait for itself.
        """
        self.stopped = True
        self._run.ended_blocking()
        return self.create_checkpoint()

    async def resume(self) -> None:
        """Resumes a stopped training, and returns when it has ended or was stopped again.

        Raises:
            JobStateError: the training is not stopped.
        """
        if not self.stopped:
            raise JobStateError("the training is not stopped: there is nothing to resume")
        await self.start(resume=True)

    def create_checkpoint(self) -> PlanTrainerCheckpoint:
        """A checkpoint of the present state. In other threads than the training's, use `stop_blocking`."""
        state, optimizer_state = self._epochs.state(), self._step.optimizer_state
        return PlanTrainerCheckpoint(
            epochs=self.epochs,
            steps_per_epoch=self.steps_per_epoch,
            batch_size=self.batch_size,
            client_config=dict(self.client_config),
            epoch=self.epoch,
            batch=self._done,
            current_model=self.current_model,
            optimizer_state=SyftModel(copied(optimizer_state)) if optimizer_state else None,
            loader_state=None if state is None else dict(state),
            random_state=self._step.random_state,
            private_state={place: self.original_model.params[place].clone() for place in self._private},
            measurements=self._step.measurements.copy() if self._step.measurements.steps else None,
            place=self._place,
        )

    def apply_checkpoint(self, checkpoint: PlanTrainerCheckpoint) -> None:
        """Goes to a checkpoint's state; the training is then stopped, and `resume` goes on from there.

        Without an optimizer's state in it (a browser's has none) the optimizer starts anew.

        Args:
            checkpoint: what `stop` or `create_checkpoint` gave, here or in another process.

        Raises:
            JobStateError: the training is running.
            CheckpointError: the checkpoint is not of this model, Plan and cycle.
        """
        self._run.check_idle()
        check_checkpoint(checkpoint)
        check_cycle(self._place, checkpoint.place)
        try:
            self.original_model.check_fit(checkpoint.current_model.params, "the checkpoint's parameters")
            self.epochs = checkpoint.epochs
            self.steps_per_epoch = checkpoint.steps_per_epoch
            self.batch_size = checkpoint.batch_size
            self.client_config = dict(checkpoint.client_config)
            if checkpoint.private_state:
                model = self.original_model.with_private(checkpoint.private_state, self._private)
                self.original_model = model
            start = checkpoint.random_state or self._start
            self._start = dataclasses.replace(start, step=0)
            self._prepare(checkpoint.current_model.params, start)
            if checkpoint.optimizer_state is not None:
                self._step.set_optimizer_state(checkpoint.optimizer_state.params)
        except ModelMismatchError as error:
            raise CheckpointError(f"the checkpoint is of another model or Plan: {error}") from None
        if checkpoint.measurements is not None:
            self._step.measurements = checkpoint.measurements.copy()
        self.epoch, self.batch_idx, self._done = checkpoint.epoch, checkpoint.batch, checkpoint.batch
        self._epochs.rewind(checkpoint.loader_state)
        self.stopped = True

    async def _train(self, resume: bool) -> None:
        completed = False
        try:
            await self._events.emit("start", TrainingStart())
            for epoch in range(self.epoch, self.epochs):
                self.epoch = epoch
                if not resume:
                    self.batch_idx = self._done = 0
                    self._step.measurements.begin_epoch()
                batches = self._epochs.open(self._done if resume else None)
                resume = False
                if not await self._train_epoch(batches):
                    await self._events.emit("stop", TrainingStop())
                    return
            completed = True
        finally:
            self.stopped = self.stopped or not completed  # after an exception the training can be resumed
        await self._events.emit("end", TrainingEnd())

    async def _train_epoch(self, batches: Iterator[Any]) -> bool:
        """Trains the rest of an epoch; False when it was stopped."""
        step, epoch = self._step, self.epoch
        starting, ended = self._events["batch_start"], self._events["batch_end"]
        await self._events.emit("epoch_start", EpochStart(epoch))
        if self.stopped:
            return False
        left = None if self.steps_per_epoch is None else max(0, self.steps_per_epoch - self._done)
        turn = 0.0  # when other coroutines may run next
        for index, batch in enumerate(itertools.islice(batches, left), self._done):
            self.batch_idx = index
            if starting:
                await self._events.emit("batch_start", BatchStart(epoch, index))
                if self.stopped:
                    return False
            step(batch)
            self._done = index + 1
            if ended:
                status = BatchEnd(epoch, index, step.loss, step.metrics)
                await self._events.emit("batch_end", status)
            self.batch_idx = index + 1
            if (now := time.perf_counter()) >= turn:
                turn = now + _BETWEEN_TURNS
                await asyncio.sleep(0)
            if self.stopped:
                return False
        check_epoch(epoch, self._done)
        await self._events.emit("epoch_end", EpochEnd(epoch))
        return True
