"""Job: one training cycle, as a worker sees it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from fedplan.client.cycle.attendance import Attendance
from fedplan.client.cycle.privacy import JobPrivacy
from fedplan.client.events import Handler
from fedplan.client.loops.blocking import blocking_twin, run_blocking
from fedplan.client.model import SyftModel
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint
from fedplan.client.training.device import Device
from fedplan.client.training.measurements import told_of_evaluation, told_of_training
from fedplan.client.training.specs import Inputs, Outputs
from fedplan.client.training.trainer import PlanTrainer
from fedplan.errors import JobStateError, WireError
from fedplan.federation.privacy import ExamplePrivacy
from fedplan.plan import Plan, PlanInputSpec
from fedplan.text import did_you_mean
from fedplan.wire import State, Summary, with_summary
from fedplan.wire.messages import EVALUATION_PLAN

_log = logging.getLogger("fedplan.client")


class Job(Attendance):
    """Represents a single training cycle done by the client. `Syft.new_job` makes one.

    ::

        job = syft.new_job("mnist", "1.0.0")
        await job.start()
        training = job.train("training_plan", data=loader)
        model = await training.wait()
        await job.report(await job.model.create_serialized_diff_from_model(model))

    Events: `accepted` (an `Accepted`), `rejected` (a `Rejected`), `error` (the exception), and in
    secure rounds `secure_stage` (a `SecureStaged`) for each stage in which the worker's message was taken.

    Attributes:
        plans: the cycle's Plans, by name.
        protocols: the cycle's Protocols, by name, as messages. "secure_aggregation" is run: `start` tells the
            worker's keys, and `report` does the rest. Others are for whoever reads them.
        client_config: what the model owner set for the workers.
        worker: the `Syft` client.
        model_name: name of the FL process.
        model_version: version of the FL process.
        cycle: number of the cycle, 1 being the model's first one on this grid; None before `start`, and of a
            grid that does not tell it.
    """

    @property
    def privacy(self) -> JobPrivacy | None:
        """The differential privacy of the cycle; None where the grid tells of none, and in no cycle.

        It is known before anything is trained, so `accept=` of `participate` can read it::

            def accept(job):
                privacy = job.privacy
                return privacy is not None and privacy.clip <= 1.0 and privacy.told.epsilon <= 8.0

        `JobPrivacy` says which of its fields the worker itself keeps to, and which the grid only says.

        Raises:
            WireError: what the grid tells of it cannot be read.
        """
        return None if self._place is None else JobPrivacy.of(self.client_config)

    @property
    def example_privacy(self) -> ExamplePrivacy | None:
        """What DP-SGD has spent of the privacy of this worker's examples; None if no Plan of it did any.

        It counts the steps of all trainings for which a report was sent, also of one that the grid refused.
        With a `state` folder those of former runs are among them. It is the worker's own figure: nobody else
        is told. It takes the model owner's word for what the Plan does (`Plan.dp`). ::

            print(job.example_privacy.epsilon(1e-5))

        Raises:
            nothing; `ExamplePrivacy.epsilon` does, where dp-accounting is not installed.
        """
        return self._examples.total if self._examples.total.runs else None

    _training: PlanTrainer | None
    """The cycle's last one."""
    _charged: ExamplePrivacy
    """What of it was counted as spent."""
    _evaluation: Summary
    """Of the cycle's model."""

    def _leave(self) -> None:
        super()._leave()
        self._training, self._evaluation = None, Summary()
        self._charged = ExamplePrivacy()

    async def report(
        self, diff: bytes | None = None, trained: SyftModel | None = None, *, summary: Summary | None = None
    ) -> None:
        """Submits the model diff to the grid, and keeps the private tensors if the grid takes it.

        A grid of fedplan is told beside it how many samples and steps the training took, and what it
        measured; other grids get the diff alone.

        With secure aggregation it waits for the other workers: it shares its secrets, reports under masks,
        and returns when it has helped to unmask the sum. The grid's deadlines bound that; a grid that is away
        is waited for, five minutes at each step. What is clipped or rounded away goes into the job's next
        report.

        Args:
            diff: serialized difference original − trained; see `SyftModel.create_serialized_diff`, which
                leaves out what is frozen where the grid takes that. None in a place for evaluation alone,
                and only there.
            trained: the trained model, whose private tensors are kept for the next cycle; by default that of
                the last `train`.
            summary: what to tell; by default the summary of the last `train` and `evaluate`. An empty
                `Summary()` tells nothing: the report then counts as the mean of the others. The grid keeps
                the metrics that the model's Plans measure.

        Raises:
            WireError: `diff` is not bytes.
            JobStateError: the job is in no cycle; or, in a place for evaluation alone, there is a diff, or
                nothing was measured.
            GridResponseError: the grid refused the report; its own words are in the message.
            GridConnectionError: the grid could not be reached. Unless the error's `sent` is False, the report
                may have arrived.
            PrivateStateError: the private tensors cannot be kept; then nothing was reported.
            SecureRoundError: the secure round has ended without a sum, or went on without this worker.
            SecureMessageError: the worker refuses what the grid sent in the secure round.
            SecureAggregationError: the diff, or what is told beside it, cannot be added up securely.
            AggregationError: under `privacy` a diff is clipped first, and this one holds a value that is not
                finite.
        """
        place = self._place
        if place is not None and place.task == "evaluation":
            diff = self._empty_diff(diff, summary)
        elif not isinstance(diff, bytes | bytearray | memoryview):
            raise WireError(
                f"a report is the bytes of a diff, and this is a {type(diff).__name__}: report what "
                "`await job.model.create_serialized_diff_from_model(trained)` gives"
            )
        if place is None:
            raise JobStateError("there is nothing to report on: the job is in no cycle")
        if self.privacy is not None and place.task == "training":
            diff = await asyncio.to_thread(self.privacy.clipped, bytes(diff), self.model.changing)
        await self._keep(trained)
        await asyncio.to_thread(self._charge)
        taken = False
        try:
            if self._secure is not None:
                diffs = State.parse(bytes(diff)).tensors
                await self._secure.report(diffs, self._told(summary), self._remainder)
                taken = self._reported = True
                return
            report = with_summary(bytes(diff), self._told(summary)) if place.summary else bytes(diff)
            await self._grid.report(place.worker_id, place.request_key, report, again=place.counts_once)
            taken = self._reported = True
        finally:
            self._private.settle(taken)
        _log.info("reported a diff of %d bytes for '%s' %s", len(diff), self.model_name, self.model_version)

    report_blocking = blocking_twin(report)

    def _told(self, summary: Summary | None) -> Summary:
        """What is told with a report."""
        if summary is not None:
            return summary
        if self._training is not None and self._training.plan.dp is not None:
            return self._training.summary  # what was measured without noise has no place beside DP-SGD
        if self.task == "evaluation":
            return self._evaluation
        trained = None if self._training is None else self._training.summary
        return told_of_training(trained, self._evaluation)

    def _empty_diff(self, diff: object, summary: Summary | None) -> bytes:
        """What is reported in a place for evaluation alone."""
        if diff is not None:
            raise JobStateError(
                "this place in the cycle is for evaluation alone: await job.evaluate(…), then await "
                "job.report() without a diff"
            )
        if not self._told(summary).evaluation:
            raise JobStateError("nothing was measured yet: await job.evaluate(…) before job.report()")
        return State.of(()).serialize()

    def _charge(self) -> None:
        """Counts the steps that the report tells of, before it is sent; a second try counts them once."""
        spent = None if self._training is None else self._training.example_privacy
        if spent is not None and spent != self._charged:
            self._examples.charge(spent.beyond(self._charged))
            self._charged = spent

    async def _keep(self, trained: SyftModel | None) -> None:
        """Makes ready what is kept when the report is taken."""
        if trained is None and self._training is not None and self.model.private:
            trained = self._training.current_model
        if trained is not None:
            self.model.check_fit(trained.params, "the trained model's parameters")
            kept = {place: trained.params[place] for place in self.model.private}
            await asyncio.to_thread(self._private.prepare, kept)

    def close(self) -> None:
        """Ends the use of the state folder, for another job. One that is started again reads it again."""
        self._private.close()

    def train(
        self,
        plan_name: str,
        *,
        inputs: Inputs = None,
        outputs: Outputs = None,
        data: Any,
        target: Any = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        steps_per_epoch: int | None = None,
        checkpoint: PlanTrainerCheckpoint | None = None,
        events: Mapping[str, Handler] | None = None,
        seed: int | None = None,
        device: Device = None,
    ) -> PlanTrainer:
        """Trains the model with a Plan. The training starts by itself in the event loop's next turn.

        Args:
            plan_name: name of the training Plan.
            inputs: what the Plan's inputs stand for; not needed for a Plan that says it itself, or of which
                it can be told, as of most that PySyft made. Either a spec for each, or a name for each
                argument, such as ``["data", "target", "batch_size", "lr", "params"]``: ``params`` are the
                model's tensors, and a name that is none of these is a key of the client config.
            outputs: what the Plan's outputs stand for; not needed for a Plan that says it itself. Of another
                one the first is the loss by default, the last ones are the parameters, and those between are
                metrics. Specs, or names such as ``["loss", "accuracy", "params"]``.
            data: training data, one row a sample: a tensor or NumPy array; a list or dict of them where the
                Plan has several data inputs; or a fedplan or torch DataLoader. Of a loader's batch the first
                element is the data and the next one the target, unless the specs have an index.
                There must be something to train on: an epoch without a batch ends the training with an error.
                Of whole tensors a last batch of one sample is left out, with a warning in the log, where the
                Plan cannot take it (batch norm).
            target: training targets, in the same forms; None with a DataLoader.
            epochs: epochs to train; `max_epochs` of the client config by default, else 1.
            batch_size: samples in a batch; `batch_size` of the client config by default. A DataLoader
                has its own.
            steps_per_epoch: most batches in an epoch; `max_updates` of the client config by default.
            checkpoint: a training to go on with; its own numbers replace the ones above.
            events: handlers by event name: `start`, `end`, `stop`, `epoch_start`, `epoch_end`, `batch_start`,
                `batch_end`.
            seed: for the Plan's random inputs, such as dropout's; from the operating system by default.
                With a seed, the same data gives the same model.
            device: where the Plan runs, such as ``"cuda"``; the CPU by default. Data is moved there batch by
                batch; the trained model is on the CPU.

        Returns:
            A handle on the training: `await trainer.wait()`.

        Raises:
            JobStateError: the job is in no cycle, has no such Plan, or no event loop is running.
            ConfigError: specs, a key of the client config or the batch size are missing or wrong; there is no
                such device; or the Plan reads the number of the cycle, and the grid does not tell it.
            DataError: data and target cannot be used, or there is nothing to train on. What shows only in the
                training reaches who waits for it.
            CheckpointError: the checkpoint is not of this model, Plan and cycle.
            UnknownEventError: `events` holds a name that does not exist.
        """
        config, model, plan = self.client_config, self.model, self._plan(plan_name)
        trainer = PlanTrainer(
            worker=self.worker,
            model=model,
            plan=plan,
            inputs=inputs,
            outputs=outputs,
            data=data,
            target=target,
            epochs=config.get("max_epochs") if epochs is None else epochs,
            batch_size=config.get("batch_size") if batch_size is None else batch_size,
            steps_per_epoch=config.get("max_updates") if steps_per_epoch is None else steps_per_epoch,
            client_config=config,
            checkpoint=checkpoint,
            events=events,
            seed=seed,
            cycle=self._number_for(inputs or plan.input_specs or ()),
            device=device,
            place=self._place,
        )
        trainer.begin(resume=checkpoint is not None)
        self._training, self._charged = trainer, ExamplePrivacy()
        return trainer

    async def evaluate(
        self,
        plan_name: str = EVALUATION_PLAN,
        *,
        data: Any,
        target: Any = None,
        batch_size: int | None = None,
        seed: int | None = None,
        device: Device = None,
    ) -> dict[str, float]:
        """Measures the cycle's model, before any training, with an evaluation Plan on all of the data.

        What it measures travels with the next `report`, and becomes the metrics of the checkpoint from which
        the cycle starts.

        Args:
            plan_name: name of the evaluation Plan: one that returns a loss and metrics, and no model.
            data: what to measure on; see `train`.
            target: see `train`.
            batch_size: samples in a batch; by default the client config's.
            seed: for the Plan's random inputs, if it has any.
            device: where the Plan runs; the CPU by default.

        Returns:
            By name, each metric's mean over the samples; the loss is ``loss``.

        Raises:
            JobStateError: the job is in no cycle, or the cycle has no such Plan.
            FedplanError: see `train`.
        """
        plan = self._plan(plan_name)
        trainer = PlanTrainer(
            worker=self.worker,
            model=self.model,
            plan=plan,
            data=data,
            target=target,
            batch_size=self.client_config.get("batch_size") if batch_size is None else batch_size,
            client_config=self.client_config,
            seed=seed,
            cycle=self._number_for(plan.input_specs or ()),
            device=device,
        )
        await trainer.start()
        self._evaluation = told_of_evaluation(trainer.summary)
        return {name: metric.value for name, metric in self._evaluation.evaluation.items()}

    evaluate_blocking = blocking_twin(evaluate)

    def train_blocking(self, plan_name: str, **arguments: Any) -> PlanTrainer:
        """`train` for callers that block: takes the same arguments, and returns when the training is over."""

        async def train() -> PlanTrainer:
            trainer = self.train(plan_name, **arguments)
            await trainer.wait()
            return trainer

        return run_blocking(train())

    def _number_for(self, inputs: Sequence[PlanInputSpec] | Sequence[str]) -> int | None:
        """The cycle's number. Where only random numbers need one, and the grid tells none, the job counts."""
        reads = any(getattr(spec, "type", None) == PlanInputSpec.TYPE_CYCLE for spec in inputs)
        return self._cycles if self.cycle is None and not reads else self.cycle

    def _plan(self, name: str) -> Plan:
        if name not in self.plans:
            if self.task == "evaluation":
                raise JobStateError(
                    f"this place in the cycle is for evaluation alone, without the Plan '{name}': await "
                    "job.evaluate(…), then await job.report()"
                )
            known = ", ".join(f"'{plan}'" for plan in self.plans) or "none"
            near = did_you_mean(str(name), self.plans)
            raise JobStateError(f"the cycle has no Plan '{name}'; its Plans are: {known}{near}")
        return self.plans[name]
