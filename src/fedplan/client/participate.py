"""Whole cycles in one call: ask, train, report, and again."""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fedplan.client.counts import positive_integer
from fedplan.client.cycle.consent import check_accept
from fedplan.client.cycle.place import given_back
from fedplan.client.cycle.policy import ConsentPolicy
from fedplan.client.events import Handler
from fedplan.client.job import Job
from fedplan.client.loops.blocking import blocking_twin
from fedplan.client.model import SyftModel
from fedplan.client.patience import Patience
from fedplan.client.progress import TrainingProgress
from fedplan.client.syft import Syft
from fedplan.client.training.batches import check_data
from fedplan.client.training.compression import DiffCompressor, negotiate
from fedplan.client.training.device import Device, usable_device
from fedplan.client.training.specs import Inputs, Outputs
from fedplan.errors import CycleRejectedError, GridConnectionError, GridResponseError, SecureRoundError
from fedplan.federation.privacy import ExamplePrivacy
from fedplan.federation.secure.cycles import PROTOCOL_NAME
from fedplan.plan import Limits, RandomStream
from fedplan.plan.roles import averaged_tensors
from fedplan.plan.run.check import DEFAULT_LIMITS
from fedplan.wire.messages import EVALUATION_PLAN

_log = logging.getLogger("fedplan.client")

Accept = Callable[[Job], Any]
"""Is asked for consent; see `participate_async`."""


@dataclasses.dataclass(slots=True)
class Participation:
    """What a worker did.

    Attributes:
        cycles: cycles that it trained in and reported to.
        refused: reports that the grid refused, as it does with one that comes after its cycle, or that may
            have been lost because the connection broke.
        losses: of each cycle that it trained in, the mean of the loss over the samples; empty when the Plan
            returns none. ``events={"batch_end": …}`` hears of the loss of each batch.
        metrics: by name, of each cycle that it trained in, the metric's mean; of those that are one number.
        evaluations: cycles in which it only measured the model, and reported that.
        example_privacy: what DP-SGD has spent of the privacy of the worker's examples, in all cycles that it
            reported to, with a `state` folder also in former runs; None without DP-SGD. Nobody else is told.
    """

    cycles: int = 0
    refused: int = 0
    losses: list[float] = dataclasses.field(default_factory=list)
    metrics: dict[str, list[float]] = dataclasses.field(default_factory=dict)
    evaluations: int = 0
    example_privacy: ExamplePrivacy | None = None

    def add(self, means: Mapping[str, float]) -> None:
        """Takes in what a cycle's training has measured; see `PlanTrainer.means`."""
        for name, mean in means.items():
            (self.losses if name == "loss" else self.metrics.setdefault(name, [])).append(mean)


async def participate_async(
    url: str,
    model_name: str,
    model_version: str,
    data: Any,
    target: Any = None,
    *,
    auth_token: str | None = None,
    accept: Accept | None = None,
    limits: Limits = DEFAULT_LIMITS,
    plan: str = "training_plan",
    cycles: int | None = 1,
    wait: bool | float = False,
    progress: bool | None = None,
    verbose: bool = False,
    log: bool | None = None,
    allow_plain_text: bool | None = None,
    evaluation_data: Any = None,
    evaluation_target: Any = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    steps_per_epoch: int | None = None,
    report_format: str | None = None,
    events: Mapping[str, Handler] | None = None,
    seed: int | None = None,
    state: str | os.PathLike[str] | None = None,
    device: Device = None,
    app: Any = None,
    client_cert: str | os.PathLike[str] | None = None,
    client_key: str | os.PathLike[str] | None = None,
    ca: str | os.PathLike[str] | None = None,
) -> Participation:
    """Takes part in training a model: authenticates, trains, reports.

    ::

        result = fedplan.participate("wss://grid.example", "mnist", "1.0.0", images, labels, wait=True)
        print(result.cycles, result.losses[-1])

    A place in a cycle that an error keeps from being used is given back; see `Job.decline`.

    It returns when its last report is taken. The grid averages the reports afterwards, when it has as many as
    the cycle needs; a model owner waits for that with `ModelCentricFLClient.wait`.

    Args:
        url: full URL of the grid; http, https, ws or wss.
        model_name: name of the FL process.
        model_version: its version.
        data: training data; see `Job.train`. A DataLoader goes on from cycle to cycle.
        target: training targets; None with a DataLoader.
        auth_token: the token that the model's authentication asks for.
        accept: asked in each cycle before anything runs, with the `Job`, whose `plans`, `model` and
            `client_config` say what would: True lets it run; False, or a reason (a str), gives the place in
            the cycle back. It may be a coroutine function. By default everything within the limits runs.
            A `ConsentPolicy` is such a function, and makes the limits as narrow as it is.
        limits: memory and work that a Plan may use; one that would use more does not run; see `Syft`.
        plan: name of the training Plan.
        cycles: how many cycles to train in; None for as many as the model has, and the evaluation of its last
            checkpoint. Cycles in which the worker only measures the model, for the grid asked that of it, do
            not count.
        wait: what to do when the grid says "not now": False gives up, True asks again when the grid says,
            as often as it takes, a number does so for that many seconds of waiting in all. Between its own
            `cycles` a worker always waits: with False as long as the grid says first, and a minute. One that
            waits also goes on when its report was refused or lost, unless it is the third in succession; and
            when a grid that had answered its requests is away, it asks again for five minutes.
        progress: show a progress bar; by default when there is a terminal.
        verbose: both of the next two; see `Syft`.
        log: log what happens; by default what `verbose` says.
        allow_plain_text: allow connections to other machines that are not encrypted; by default what
            `verbose` says.
        evaluation_data: what to measure the model on, before it is trained in each cycle, if its owner hosted
            an evaluation Plan; by default the training data.
        evaluation_target: the targets of that data.
        inputs: what the Plan's inputs stand for; see `Job.train`.
        outputs: what the Plan's outputs stand for; see `Job.train`.
        epochs: epochs in a cycle; by default the client config's.
        batch_size: samples in a batch; by default the client config's.
        steps_per_epoch: most batches in an epoch; by default the client config's.
        report_format: ``float32``, ``float16``, ``int8`` or ``topk``, if the model takes it; by default what
            its owner prefers. What a smaller form loses goes into the next cycle's report.
        events: handlers of the training's events.
        seed: for the Plan's random inputs, such as dropout's; from the operating system by default. It never
            leaves the worker.
        state: a folder for the tensors that the worker keeps for itself from cycle to cycle, if the model has
            such; see `Syft.new_job`. Without, they last as long as this call.
        device: where the Plan runs, such as ``"cuda"`` or ``"mps"``; the CPU by default. The data may stay on
            the CPU: it is moved batch by batch.
        app: an ASGI app in this process to call instead of a server; see `Syft`.
        client_cert: a file with the client certificate that the model's authentication asks for; see `Syft`.
        client_key: a file with its key; see `Syft`.
        ca: a file with the authorities by which the grid's certificate is checked; see `Syft`.

    Returns:
        What was done. It may be fewer cycles than asked for, when the model was finished earlier or the
        grid took the worker no more.

    Raises:
        CycleDeclinedError: `accept` refused.
        CycleRejectedError: not a single cycle could be joined.
        DataError: there is nothing to train on, or data and target cannot be used together; this is said
            before the grid is asked for anything.
        ConfigError: there is no such device, or a file of certificates cannot be used, which is said before
            the grid is asked for anything; the model does not take the `report_format`; or see `Job.train`.
        PrivateStateError: the state folder cannot be used; that of a damaged file is said before the grid is
            asked for a place.
        InsecureUrlError: the URL is plain http or ws, of another machine, and that is not allowed.
        GridConnectionError: the grid could not be reached, or stayed away.
        GridResponseError: the grid refused something, such as a report.
        SecureRoundError: a secure round ended without a sum; one that waits goes on with the next round.
        FedplanError: see `Job.train` and `PlanTrainer.start`.
    """
    check_accept(accept)
    if isinstance(accept, ConsentPolicy):
        limits = accept.within(limits)
    check_data(data, target)  # before a place in the cycle is taken with it
    if evaluation_data is None:
        evaluation_data, evaluation_target = data, target
    else:
        check_data(evaluation_data, evaluation_target)
    if seed is not None:
        RandomStream(seed)  # refuses what is no seed
    place = usable_device(device)
    most = None if cycles is None else positive_integer(cycles, "cycles")
    for name, count in (("epochs", epochs), ("batch_size", batch_size), ("steps_per_epoch", steps_per_epoch)):
        if count is not None:
            positive_integer(count, name)
    result, patience, reports = Participation(), Patience(wait), _Reports(report_format)
    async with Syft(
        url,
        verbose,
        log=log,
        allow_plain_text=allow_plain_text,
        app=app,
        limits=limits,
        client_cert=client_cert,
        client_key=client_key,
        ca=ca,
    ) as syft:
        # one for all cycles: it stays one worker
        job = syft.new_job(model_name, model_version, auth_token, state=state, evaluates=True)
        with contextlib.closing(job), TrainingProgress(progress) as bars:
            while most is None or result.cycles < most:
                try:
                    await _enter_cycle(job, accept, patience, bars)
                except CycleRejectedError:
                    if result.cycles + result.evaluations == 0:
                        raise
                    break
                async with given_back(job.decline):
                    if EVALUATION_PLAN in job.plans:
                        await job.evaluate(
                            data=evaluation_data,
                            target=evaluation_target,
                            batch_size=batch_size,
                            seed=seed,
                            device=place,
                        )
                    if job.task == "evaluation":
                        # one that comes too late is no sign of anything wrong: nobody waits for it
                        taken = await _report(job.report, patience, forgive=True)
                        result.evaluations += taken
                        result.refused += not taken
                        continue
                    reports.agree(job.client_config)
                    training = job.train(
                        plan,
                        inputs=inputs,
                        outputs=outputs,
                        data=data,
                        target=target,
                        epochs=epochs,
                        batch_size=batch_size,
                        steps_per_epoch=steps_per_epoch,
                        events=events,
                        seed=seed,
                        device=place,
                    )
                    bars.follow(training, result.cycles + 1)
                    send = functools.partial(reports.send, job, await training.wait())
                    result.add(training.means)
                    taken = await _report(send, patience)
                    result.example_privacy = job.example_privacy
                    if not taken and PROTOCOL_NAME in job.protocols:
                        await _give_back(job)
                    result.cycles += taken
                    result.refused += not taken
    return result


participate = blocking_twin(participate_async)


async def _enter_cycle(job: Job, accept: Accept | None, patience: Patience, bars: TrainingProgress) -> None:
    """Asks until the job is in a cycle, the grid says never, or the patience ends."""
    while True:
        try:
            await job.start(accept=accept)
        except CycleRejectedError as rejected:
            patience.answered()
            seconds = patience.wait(rejected)
            if seconds is None:
                raise
        except (GridConnectionError, GridResponseError) as error:
            seconds = patience.outlast(error)
            if seconds is None:
                raise
        else:
            patience.answered()
            patience.joined(numbered=job.cycle is not None)
            return
        bars.wait(seconds)
        await asyncio.sleep(seconds)


async def _give_back(job: Job) -> None:
    """Leaves a secure round to which the worker could not report: it waits for each that has a place."""
    try:
        await job.decline("its report was refused")
    except (GridConnectionError, GridResponseError) as error:
        _log.debug("the place in the cycle is not given back, and the stage ends by time: %s", error)


class _Reports:
    """The bytes of one cycle's report after the other."""

    def __init__(self, wanted: str | None) -> None:
        self._wanted = wanted
        self._compressor: DiffCompressor | None = None

    def agree(self, client_config: Mapping[str, Any]) -> None:
        """Settles the form of the cycle's report, before any training would be lost."""
        format = negotiate(client_config, self._wanted)
        if format is None:
            self._compressor = None
        elif self._compressor is None or self._compressor.format != format:
            self._compressor = DiffCompressor(format)

    async def send(self, job: Job, trained: SyftModel) -> None:
        """Reports what was trained, in the form that was agreed on."""
        if self._compressor is None:
            await job.report(await job.model.create_serialized_diff_from_model(trained))
        else:
            averaged = averaged_tensors(job.plans.values(), len(job.model.params))
            await job.report(self._compressor.compress(job.model.diff(trained), averaged))
            self._compressor.sent()


async def _report(send: Callable[[], Awaitable[None]], patience: Patience, *, forgive: bool = False) -> bool:
    """Sends a report; returns whether it was taken. A refusal is forgiven as often as the patience says.

    `send` repeats a report for a few seconds where the grid counts it once (see `Job.report`). One that may
    have arrived is not sent again after that: it counts as refused.
    A report that a grid has turned away for now, as while its database is away, is sent again for as long as
    the patience lasts.

    Args:
        send: sends it.
        patience: the worker's.
        forgive: whether a refusal is forgiven in any case.
    """
    while True:
        try:
            await send()
        except SecureRoundError as error:
            if not (forgive or patience.forgives()):
                raise
            _log.warning("%s", error)
            return False
        except (GridConnectionError, GridResponseError) as error:
            unsent = isinstance(error, GridConnectionError) and not error.sent
            later = isinstance(error, GridResponseError) and error.retry_after is not None
            seconds = patience.outlast(error) if unsent or later else None
            if seconds is None:
                if unsent or not (forgive or patience.forgives()):
                    raise
                _log.warning("%s", error)
                return False
        else:
            patience.renew()
            return True
        await asyncio.sleep(seconds)
