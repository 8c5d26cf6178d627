"""Attendance: how a worker comes into a cycle of a model, and out of it again."""

import asyncio
import logging
from typing import Any, Literal

from fedplan.client.cycle.consent import Asked, check_accept, obtain_consent
from fedplan.client.cycle.examples import ExampleLedger
from fedplan.client.cycle.joining import Joining, download, rejection
from fedplan.client.cycle.place import Place, given_back
from fedplan.client.cycle.private import PrivateState
from fedplan.client.cycle.resuming import cycle_may_be_over, place_of
from fedplan.client.events import Accepted, Events, Observed, Rejected, SecureStaged
from fedplan.client.loops.blocking import blocking_twin
from fedplan.client.model import SyftModel
from fedplan.client.secure.attending import Remainder, SecureAttendance, received_of
from fedplan.client.training.checkpoint import PlanTrainerCheckpoint
from fedplan.client.transport.api import GridApi
from fedplan.errors import CheckpointError, FedplanError, JobStateError, SecureRoundError
from fedplan.federation.secure.cycles import PROTOCOL_NAME
from fedplan.plan import Limits, Plan
from fedplan.plan.roles import private_tensors
from fedplan.plan.run.check import DEFAULT_LIMITS
from fedplan.wire import schema

_log = logging.getLogger("fedplan.client")


_NEXT_ROUND_SECONDS = 1.0
"""After how long a worker asks again whose round did not begin, or not with it."""


class Attendance(Observed):
    """The part of a `Job` that is in a cycle, or is not. See there for its attributes."""

    plans: dict[str, Plan]
    protocols: dict[str, schema.Protocol]
    _model: SyftModel | None
    _place: Place | None
    _reported: bool
    """In this place."""
    _secure: SecureAttendance | None
    """In the cycle's secure round, if it is one."""

    def __init__(
        self,
        worker: object,
        grid: GridApi,
        model_name: str,
        model_version: str,
        auth_token: str | None = None,
        *,
        private: PrivateState,
        limits: Limits = DEFAULT_LIMITS,
        evaluates: bool = False,
    ) -> None:
        """See `Syft.new_job`."""
        self.worker = worker
        self.model_name = model_name
        self.model_version = model_version
        self.cycle: int | None = None
        self.client_config: dict[str, Any] = {}
        self._grid = grid
        self._joining = Joining(grid, model_name, model_version, auth_token, evaluates=evaluates)
        self._limits = limits
        self._private = private
        self._examples = ExampleLedger(private.ledger)
        self._cycles = 0  # that it was accepted into
        self._events = Events("accepted", "rejected", "error", "secure_stage")
        self._remainder = Remainder()
        self._leave()

    @property
    def worker_id(self) -> str | None:
        """What the grid calls this worker; None before `start`."""
        return self._joining.worker_id

    @property
    def task(self) -> Literal["training", "evaluation"] | None:
        """What the job does in its cycle; None in no cycle.

        ``"evaluation"``, which only a job gets that was made with ``evaluates=True``, means: `evaluate`, then
        `report` without a diff.
        """
        return None if self._place is None else self._place.task

    @property
    def model(self) -> SyftModel:
        """The cycle's model, before training.

        Raises:
            JobStateError: the grid has not accepted this job.
        """
        if self._model is None:
            raise JobStateError("the job is in no cycle: await start(), and see whether the grid accepts it")
        return self._model

    async def start(self, *, accept: Asked | None = None) -> None:
        """Starts the job.

        Authenticates for the FL model, measures the connection if the grid asks for it, asks to join the
        cycle, and downloads the model, the Plans and the Protocols. Then it fires `accepted` or `rejected`.

        A job that is started again, after a rejection or for the next cycle, asks as the same worker: it does
        not authenticate and measure once more. (In the reference it does, and so could have two places in one
        cycle.)

        With secure aggregation (`protocols` has "secure_aggregation") it tells the worker's keys too, and
        waits until the grid has gathered the workers of the round. A round that does not begin, or not with
        this worker, is a rejection with a time to ask again.

        When something goes wrong it fires `error` and returns. Differs from the reference: what nobody
        listens to is raised, an error as it is, a rejection as CycleRejectedError. A place in the cycle is
        given back when the download, `accept`, or a handler of `accepted`, fails or is cancelled; see
        `decline`.

        Args:
            accept: asked with this job when all is downloaded, before anything runs and, with secure
                aggregation, before the worker's keys are told, so that a refusal leaves no gap in the round:
                True goes on; False, or a reason (a str), gives the place back. It may be a coroutine
                function, or a `ConsentPolicy`. By default nobody is asked.

        Raises:
            CycleDeclinedError: `accept` refused, and no handler is registered for `error`.
            ConfigError: `accept` is no function.
            FedplanError: no handler is registered for `error`.
            CycleRejectedError: rejected, and no handler is registered for `rejected`.
        """
        check_accept(accept)
        try:
            answer = await self._request(accept)
        except FedplanError as error:
            if not self._events["error"]:
                raise
            await self._events.emit("error", error)
            return
        if isinstance(answer, Accepted):
            async with given_back(self.decline):
                await self._events.emit("accepted", answer)
        elif self._events["rejected"]:
            await self._events.emit("rejected", answer)
        else:
            raise rejection(self.model_name, self.model_version, answer)

    async def request(self, *, accept: Asked | None = None) -> None:
        """Alias for `start`."""
        await self.start(accept=accept)

    start_blocking = blocking_twin(start)
    request_blocking = blocking_twin(request)

    async def _request(self, accept: Asked | None) -> Accepted | Rejected:
        self._leave()
        await asyncio.to_thread(self._open_state)  # before a place is taken that could not be used
        name, version = self.model_name, self.model_version
        worker_id, answer = await self._joining.ask()
        if isinstance(answer, Rejected):
            _log.info("rejected from the cycle of '%s' %s, timeout: %s s", name, version, answer.timeout)
            return answer
        self._place = Place.of(worker_id, answer)
        try:
            async with given_back(self.decline):
                await self._enter(self._place, answer.client_config, accept)
        except SecureRoundError as error:
            _log.info("the round does not begin for this worker: %s", error)
            return Rejected(_NEXT_ROUND_SECONDS)
        _log.info("accepted into a cycle of '%s' %s with the Plans %s", name, version, list(self.plans))
        return Accepted(self.model, self.client_config)

    async def _enter(self, place: Place, client_config: dict[str, Any], accept: Asked | None = None) -> None:
        """Downloads what the cycle consists of, asks for consent, and joins the secure round if it is one."""
        found = await download(self._grid, place, self._limits)
        self._model = self._private.fill(found.model, private_tensors(found.plans.values()))
        self.plans, self.protocols = dict(found.plans), dict(found.protocols)
        self.client_config, self.cycle = client_config, place.cycle
        self._cycles += 1
        await obtain_consent(accept, self)  # before the keys: who refuses later has dropped out of the round
        if PROTOCOL_NAME in place.protocols:
            secure = SecureAttendance(self._grid.secure, place, self._tell_stage)
            await secure.enter(received_of(found.model.params, found.digests, client_config))
            self._secure = secure

    def _open_state(self) -> None:
        """Reads what the worker keeps."""
        self._private.open()
        self._examples.open()

    def _leave(self) -> None:
        """The job is in no cycle."""
        self._place, self._reported, self._model, self.plans, self.protocols = None, False, None, {}, {}
        self._secure = None

    async def _tell_stage(self, stage: str) -> None:
        await self._events.emit("secure_stage", SecureStaged(stage))

    async def resume(self, checkpoint: PlanTrainerCheckpoint) -> None:
        """Comes back into the cycle in which a training was stopped, also in another process. ::

            await job.resume(checkpoint)  # in place of start()
            training = job.train("training_plan", data=loader, checkpoint=checkpoint)

        Model and Plans are downloaded again, and the job reports in the place of the one that made the
        checkpoint. No event is fired. What `evaluate` had measured is not in a checkpoint.

        Raises:
            CheckpointError: the checkpoint is of no cycle of this model, its cycle is over, or it is one with
                secure aggregation.
            FedplanError: see `start`.
        """
        place = place_of(checkpoint, self.model_name, self.model_version)
        if PROTOCOL_NAME in place.protocols:
            raise CheckpointError(
                f"the training in {place} cannot be gone on with: a worker's secrets of a secure round are "
                "not in a checkpoint, so who leaves the round has dropped out of it. Start the job for the "
                "next cycle, and train anew"
            )
        self._leave()
        await asyncio.to_thread(self._open_state)
        with cycle_may_be_over(place):
            await self._enter(place, dict(checkpoint.client_config))
        self._place, self._joining.worker_id = place, place.worker_id

    resume_blocking = blocking_twin(resume)

    async def decline(self, reason: str | None = None) -> None:
        """Gives the job's place in the cycle back, so that others may have it and the cycle does not wait.

        The job is in no cycle afterwards; `start` asks for a place again. Without a place, or after its
        report, nothing happens. A grid that does not know this call waits until the place lapses.

        Args:
            reason: told to the grid, if given: its first 200 characters.

        Raises:
            GridConnectionError: the grid could not be reached.
            GridResponseError: the grid is overloaded.
        """
        place = self._place
        if place is not None and not self._reported:
            self._leave()
            short = None if reason is None else str(reason)[:200]
            await self._grid.decline(place.worker_id, place.request_key, short)

    decline_blocking = blocking_twin(decline)
