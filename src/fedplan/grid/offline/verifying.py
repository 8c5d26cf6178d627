"""Whether what is stored of a model is what it was: checkpoints computed once more, and checksums."""

import asyncio
import dataclasses
import enum
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from fedplan.errors import (
    AggregationError,
    ConfigError,
    DamagedBlobError,
    DamagedReportsError,
    NotFoundError,
    PlanError,
    WireError,
)
from fedplan.federation import ServerState
from fedplan.grid.averaging.apart import Apart, Bounds, memory_of_machine
from fedplan.grid.averaging.reading import Reading, changed, start_of
from fedplan.grid.averaging.tally import Tally
from fedplan.grid.blobs import Blobs
from fedplan.grid.known import Known
from fedplan.grid.records import Checkpoint, Hosted, Process, Report
from fedplan.grid.store import Store, catalogue, participation, reports, rounds
from fedplan.grid.store.naming import named
from fedplan.wire import State

_ABSENT = (DamagedBlobError, FileNotFoundError)


class Outcome(enum.StrEnum):
    """What came of looking at a piece of what is stored."""

    EQUAL = "equal"
    """The reports are kept, and make the very bits of the checkpoint."""
    GOOD = "good"
    """It could not be computed once more, and all checksums are right."""
    DAMAGED = "damaged"
    """Blobs are missing, or are not what was stored."""
    DIFFERENT = "different"
    """All checksums are right, and the kept reports do not make the checkpoint."""

    DELETED = "deleted"
    """It is not there any more, for the model's server_config does not keep it."""

    @property
    def is_wrong(self) -> bool:
        """Whether somebody has to do something."""
        return self in (Outcome.DAMAGED, Outcome.DIFFERENT)


@dataclasses.dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one piece of what is stored.

    Attributes:
        what: the piece, such as ``checkpoint 3``.
        outcome: see `Outcome`.
        reports: how many reports made it, as is recorded; None where none did.
        damaged: keys of the blobs that are damaged or missing.
        unchecked: how many blobs of older grids have no checksum, and were only read.
        why: why it was not computed once more, or what is different; "" when there is nothing to say.
    """

    what: str
    outcome: Outcome
    reports: int | None = None
    damaged: tuple[str, ...] = ()
    unchecked: int = 0
    why: str = ""


_AVERAGING_SECONDS = 86_400.0
"""How long an averaging Plan may compute: whoever looks is not in a hurry, and may break it off."""


class _NotMadeError(Exception):
    """A checkpoint cannot be computed once more; says why."""


async def verify(
    store: Store, blobs: Blobs, name: str, version: str, number: int | None = None
) -> AsyncIterator[Finding]:
    """Looks at all that is stored of a model, or at one checkpoint, and changes nothing.

    Args:
        store: the tables.
        blobs: the blobs.
        name: of the model.
        version: of it.
        number: of the checkpoint; None for all of them, the Plans, and the reports of the open cycle.

    Raises:
        NotFoundError: there is no such model or checkpoint.
    """
    known = Known(store, blobs, Apart(Bounds(memory_of_machine(), _AVERAGING_SECONDS)))
    process = await known.find(name, version)
    async with store.reading() as db:
        found = await catalogue.checkpoints_of(db, process.id)
    if number is not None and number not in {checkpoint.number for checkpoint in found}:
        raise NotFoundError(f"'{name}' version '{version}' has no checkpoint {number}")
    verifier = _Verifier(store, blobs, known, process)
    if number is None:
        yield await verifier.hosted(await known.hosted(process.id))
    for checkpoint in reversed(found):
        if number in (None, checkpoint.number):
            yield await verifier.checkpoint(checkpoint, found)
    if number is None:
        yield await verifier.latest_cycle()


class _Verifier:
    """Looks at the pieces of one model."""

    def __init__(self, store: Store, blobs: Blobs, known: Known, process: Process) -> None:
        self._store = store
        self._blobs = blobs
        self._known = known
        self._process = process

    async def hosted(self, hosted: Hosted) -> Finding:
        """The Plans, the Protocols and what is frozen of the model."""
        keys = [variant.content for plan in hosted.plans.values() for variant in plan.variants.values()]
        keys += [protocol.blob for protocol in hosted.protocols.values()]
        keys += filter(None, [hosted.process.averaging_plan, hosted.process.frozen])
        return await self._checked("what was hosted", keys)

    async def latest_cycle(self) -> Finding:
        """The reports of the latest cycle, which may be open."""
        async with self._store.reading() as db:
            cycle = await participation.latest_cycle(db, self._process.id)
            received = await self._kept(cycle.id)
        return await self._checked(
            f"cycle {cycle.number}", [report.blob for report in received], cycle.reported
        )

    async def checkpoint(self, checkpoint: Checkpoint, others: Sequence[Checkpoint]) -> Finding:
        """A checkpoint, with the reports that made it as far as they are kept.

        Args:
            checkpoint: which one.
            others: all of the model.
        """
        what = f"checkpoint {checkpoint.number}"
        if checkpoint.deleted_at is not None:
            return Finding(what, Outcome.DELETED)
        keys, count, received = [checkpoint.blob], None, list[Report]()
        if checkpoint.state is not None:
            keys.append(checkpoint.state)
        start: Checkpoint | None = None
        if checkpoint.cycle is not None:
            async with self._store.reading() as db:
                made_in = await rounds.numbered(db, self._process.id, checkpoint.cycle)
                start = next((other for other in others if other.id == made_in.checkpoint_id), None)
                count = await reports.recorded(db, made_in.id)
                received = list(await reports.of_cycle(db, made_in.id))
            keys += [report.blob for report in await self._kept(made_in.id)]
        finding = await self._checked(what, keys, count)
        if finding.outcome.is_wrong or checkpoint.cycle is None:
            return finding
        try:
            if self._process.server_config.secure_aggregation is not None:
                raise _NotMadeError(
                    "it was made of reports under masks, which are not kept: they cannot be added up again"
                )
            if start is None:
                raise _NotMadeError("it is not known what its cycle started from")
            if start.deleted_at is not None:
                raise _NotMadeError(f"checkpoint {start.number}, with which its cycle began, is deleted")
            if len(received) != count:
                raise _NotMadeError(f"{len(received)} of its {count} reports are kept")
            difference = await self._difference(checkpoint, start, received)
        except _NotMadeError as error:
            return dataclasses.replace(finding, why=str(error))
        outcome = Outcome.DIFFERENT if difference else Outcome.EQUAL
        return dataclasses.replace(finding, outcome=outcome, why=difference)

    async def _kept(self, cycle_id: int) -> Sequence[Report]:
        """All reports of a cycle whose blobs are kept, those too that only measured the model."""
        async with self._store.reading() as db:
            return [
                *await reports.of_cycle(db, cycle_id),
                *await reports.of_cycle(db, cycle_id, aside=True),
            ]

    async def _checked(self, what: str, keys: Sequence[str], count: int | None = None) -> Finding:
        """Reads blobs through. One that a running grid has deleted meanwhile is not missed."""
        damaged, unchecked = list[str](), 0
        for key in keys:
            try:
                unchecked += not await self._blobs.check(key)
            except _ABSENT:
                damaged.append(key)
        if damaged:
            async with self._store.reading() as db:
                needed = await named(db, damaged)
            damaged = [key for key in damaged if key in needed]
        outcome = Outcome.DAMAGED if damaged else Outcome.GOOD
        return Finding(what, outcome, count, tuple(damaged), unchecked)

    async def _difference(self, checkpoint: Checkpoint, start: Checkpoint, received: Sequence[Report]) -> str:
        """What is different in a checkpoint that is computed once more; "" when it is the same, bit for bit.

        Raises:
            _NotMadeError: it cannot be computed.
        """
        try:
            model, state = await self._made(start, received)
        except (DamagedReportsError, *_ABSENT):
            raise _NotMadeError("what it was made of is damaged, or was deleted meanwhile") from None
        except (AggregationError, ConfigError, PlanError, WireError) as error:
            raise _NotMadeError(f"it cannot be computed here: {error}") from None
        stored = await self._blobs.get(checkpoint.blob)
        if _bits_of_model(model) != _bits_of_model(stored):
            return "the kept reports make another model"
        kept = b"" if checkpoint.state is None else await self._blobs.get(checkpoint.state)
        if _bits_of_state(state) != _bits_of_state(kept):
            return "the kept reports make the model, and another state of the strategy"
        return ""

    async def _made(self, start: Checkpoint, received: Sequence[Report]) -> tuple[bytes, bytes]:
        strategy = self._known.strategy(self._process)
        with tempfile.TemporaryDirectory(prefix="fedplan-verify-") as scratch:
            reading = Reading(self._blobs, strategy, received, Path(scratch))
            model, before = await start_of(self._blobs, start)
            if strategy.streams:
                averaged, _ = await reading.streamed(Tally(strategy.nothing()))
            else:
                averaged, _ = await reading.gathered(before)
        return await asyncio.to_thread(changed, strategy, model, averaged, before)


def _bits_of_model(data: bytes) -> list[tuple[str, tuple[int, ...], bytes]]:
    return [(tensor.dtype, tensor.shape, tensor.array.tobytes()) for tensor in State.parse(data).tensors]


def _bits_of_state(data: bytes) -> list[tuple[str, list[bytes]]]:
    if not data:
        return []
    tensors = ServerState.parse(data).tensors
    return [(name, [array.tobytes() for array in arrays]) for name, arrays in tensors.items()]
