"""One secure round, as a worker goes through it: its keys before the training, the rest with its report."""

import asyncio
import dataclasses
import logging
import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fedplan.client.cycle.place import Place
from fedplan.client.transport.exchange import AWAY_SECONDS, passes
from fedplan.client.transport.secure import SecureCalls, bytes_of
from fedplan.errors import (
    GridConnectionError,
    GridResponseError,
    ModelMismatchError,
    SecureRoundError,
)
from fedplan.federation.secure import Payload, Received, SecureWorker, digest_of_tensors, payload_of
from fedplan.federation.secure.cycles import cycle_name, digest_of_config, told_figures
from fedplan.federation.tensors import Float64s, Tensors
from fedplan.plan import from_torch
from fedplan.wire import Summary
from fedplan.wire.messages import SENT_OTHERWISE, SecureStage

_log = logging.getLogger("fedplan.client")
_T = TypeVar("_T")

Told = Callable[[SecureStage], Awaitable[None]]
"""Is told of each stage in which the worker's message was taken."""


@dataclasses.dataclass(slots=True)
class Remainder:
    """What reports could not hold: it was clipped or rounded away, and is added to the next one.

    Attributes:
        left: of each tensor; empty before the first report.
        before: what it was before the latest report that a grid took.
        reported: the place of that report, while it is not known whether its round came to a sum.
    """

    left: Sequence[Float64s] = ()
    before: Sequence[Float64s] = ()
    reported: Place | None = None

    def commit(self, left: Sequence[Float64s], place: Place) -> None:
        """A grid took a report: what it held is sent, unless its round fails."""
        if self.reported is None or self.reported.request_key != place.request_key:
            self.before, self.reported = self.left, place
        self.left = left

    def roll_back(self) -> None:
        """The round of the latest report has failed: nothing of that report is in a sum."""
        if self.reported is not None:
            self.left, self.before, self.reported = self.before, (), None

    def settle(self) -> None:
        """The round of the latest report has come to its sum, or nobody can tell."""
        self.before, self.reported = (), None

    def added_to(self, tensors: Sequence[NDArray[Any]]) -> list[Float64s]:
        """A diff with what was left of the last one."""
        exact = [tensor.astype(np.float64) for tensor in tensors]
        if [tensor.shape for tensor in exact] != [tensor.shape for tensor in self.left]:
            return exact
        return [tensor + left for tensor, left in zip(exact, self.left, strict=True)]


class SecureAttendance:
    """A worker's place in a secure round.

    Args:
        calls: of the grid.
        place: in the cycle.
        told: see `Told`.
    """

    def __init__(self, calls: SecureCalls, place: Place, told: Told) -> None:
        self._calls = calls
        self._place = place
        self._told = told
        self._worker = SecureWorker(cycle_name(place.model, place.version, place.cycle or 0))
        self._payload: tuple[Payload, list[Float64s]] | None = None

    async def enter(self, received: Received) -> None:
        """Tells the worker's keys, and waits until the round begins.

        Raises:
            SecureRoundError: it does not, or not with this worker.
            SecureMessageError: it is not what this worker asks for.
        """
        try:
            await self._send("keys", self._worker.keys)
        except GridResponseError as error:
            if error.status != 409 and SENT_OTHERWISE not in str(error):
                raise  # otherwise keys of an earlier start count, whose secrets are lost
            raise SecureRoundError(f"the round begins without this worker: {error}") from None
        announcement = await self._receive("keys")
        await asyncio.to_thread(self._worker.join, announcement, received)

    async def report(self, diff: Tensors, summary: Summary, remainder: Remainder) -> None:
        """Shares, reports under masks, and helps to unmask the sum.

        Args:
            diff: original − trained, of the tensors that change.
            summary: what is told beside it.
            remainder: of the last report; that of this one once it is taken, unless the round fails.

        Raises:
            SecureRoundError: the round ends without a sum, or without this worker.
            SecureMessageError: what the grid sends is refused; then the worker tells nothing more.
            SecureAggregationError: the diff or the summary cannot be added up.
            ModelMismatchError: the diff has other tensors than the round adds up.
        """
        await self._settle(remainder)
        payload, left = await asyncio.to_thread(self._made, diff, summary, remainder)
        worker = self._worker
        await self._send("shares", await asyncio.to_thread(worker.share))
        await asyncio.to_thread(worker.receive, await self._receive("shares"))
        masked = await asyncio.to_thread(worker.report, payload)
        await self._send("reports", masked, lambda: remainder.commit(left, self._place))
        try:
            question = await self._receive("reports")
        except SecureRoundError:
            remainder.roll_back()
            raise
        await self._send("unmasking", await asyncio.to_thread(worker.answer, question))

    async def _settle(self, remainder: Remainder) -> None:
        """Finds out whether the round before, in which this worker reported, has failed after that."""
        last = remainder.reported
        if last is None or last.request_key == self._place.request_key:
            return
        try:
            answer = await self._calls.receive(last.worker_id, last.request_key, "reports")
        except (GridConnectionError, GridResponseError) as error:
            _log.info("it is not known whether %s came to a sum, so it counts as if it had: %s", last, error)
            remainder.settle()
            return
        if answer.failure is None:
            remainder.settle()
        else:
            _log.info("%s ended without a sum, so its report is not sent: %s", last, answer.failure)
            remainder.roll_back()

    def _made(self, diff: Tensors, summary: Summary, remainder: Remainder) -> tuple[Payload, list[Float64s]]:
        """The numbers that are reported: drawn once, for under the same masks two could be read."""
        if self._payload is None:
            manifest = self._worker.terms.manifest
            arrays = [tensor.array for tensor in diff]
            if [array.size for array in arrays] != list(manifest.sizes):
                raise ModelMismatchError(
                    f"the diff has {len(arrays)} tensors, and not those that the round adds up: report what "
                    "`await job.model.create_serialized_diff_from_model(trained)` gives"
                )
            figures = told_figures(manifest, summary)
            self._payload = payload_of(manifest, remainder.added_to(arrays), figures)
        return self._payload

    async def _send(
        self, stage: SecureStage, message: bytes, taken: Callable[[], None] | None = None
    ) -> None:
        """Sends a message; `taken` is called as soon as the grid has it, before anything else can fail."""
        place = self._place
        await _lasting(lambda: self._calls.send(place.worker_id, place.request_key, stage, message))
        if taken is not None:
            taken()
        _log.info("sent the %s of %s", stage, place)
        await self._told(stage)

    async def _receive(self, stage: SecureStage) -> bytes:
        """Waits for what the grid sends at the end of a stage, for which it has a deadline."""
        place = self._place
        while True:
            answer = await _lasting(lambda: self._calls.receive(place.worker_id, place.request_key, stage))
            if answer.failure is not None:
                raise SecureRoundError(f"{place} has ended for this worker: {answer.failure}")
            if answer.message is not None:
                return bytes_of(answer.message)
            # a wait is no secret
            await asyncio.sleep((answer.retry_after or 1.0) * random.uniform(1.0, 1.1))  # nosec B311


def received_of(
    params: Sequence[Any], plans: Mapping[str, bytes], client_config: Mapping[str, Any]
) -> Received:
    """Digests of what was downloaded for a cycle.

    Args:
        params: of the model, as it came.
        plans: digests of the Plans' bytes, by ``name/variant``.
        client_config: what the grid told.
    """
    return Received(
        digest_of_tensors([from_torch(p) for p in params]), plans, digest_of_config(client_config)
    )


async def _lasting(call: Callable[[], Awaitable[_T]]) -> _T:
    """Calls a grid; one that is away is asked again for five minutes, as while it is started again."""
    for seconds in AWAY_SECONDS:
        try:
            return await call()
        except (GridConnectionError, GridResponseError) as error:
            if not passes(error):
                raise
            _log.warning("%s: asking again in %.0f s", error, seconds)
            await asyncio.sleep(seconds * random.uniform(1.0, 1.1))  # nosec B311  # no secret
    return await call()
