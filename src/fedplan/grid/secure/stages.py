"""How a secure round goes from stage to stage: by the closer, under the cycle's lease."""

import asyncio
import dataclasses
import logging

from fedplan.errors import SecureAggregationError
from fedplan.federation import (
    GATHER,
    KEYS,
    REPORTS,
    SHARES,
    UNMASKING,
    Stage,
    secure_stages,
    why_lost,
)
from fedplan.federation.secure import (
    Received,
    Roster,
    RosterMember,
    Terms,
    digest_of_bytes,
    digest_of_tensors,
    lists_of,
)
from fedplan.federation.secure.cycles import cycle_name, digest_of_config, first_exponents, manifest_of
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Cycle, Lease, Process
from fedplan.grid.secure import queries
from fedplan.grid.secure.memory import Settled
from fedplan.grid.secure.progress import heed, stage_of
from fedplan.grid.secure.settled import settled
from fedplan.grid.service.events import about, record
from fedplan.grid.store import participation, rounds
from fedplan.grid.store.connection import Db
from fedplan.wire import State, WireTensor

logger = logging.getLogger(__name__)

_NEXT = {GATHER: KEYS, KEYS: SHARES, SHARES: REPORTS, REPORTS: UNMASKING}


@dataclasses.dataclass(frozen=True, slots=True)
class _Announced:
    """The announcement of a round, and the places of its workers."""

    terms: Terms
    places: tuple[int, ...]


async def advance(grid: Grid, process: Process, seen: Cycle, lease: Lease) -> bool:
    """Brings a secure cycle to its next stage, if the present one has ended.

    Returns:
        Whether the cycle is closing now: the sum can be unmasked, or the round has failed.
    """
    made: _Announced | SecureAggregationError | None = None
    if seen.stage == KEYS:
        made = await _announcement(grid, process, seen)
    found = await settled(grid, seen.id)
    now = grid.clock()
    async with grid.store.writing() as db:
        cycle = await participation.get_cycle(db, seen.id, lock=True)
        closes = False
        if cycle.is_open and cycle.stage == seen.stage:
            stage, progress = await stage_of(db, process, cycle)
            if stage.is_lost(progress, now):
                closes = await _fail(grid, db, process, cycle, why_lost(stage, progress.reported))
            elif stage.is_complete(progress, now):
                closes = await _go_on(grid, db, process, cycle, stage, made, found)
                await heed(grid, db, process, cycle.id)  # all keys may have come while others were gathered
        if not closes:
            await rounds.drop_lease(db, lease)
    return closes


async def _go_on(
    grid: Grid,
    db: Db,
    process: Process,
    cycle: Cycle,
    stage: Stage,
    made: _Announced | SecureAggregationError | None,
    found: Settled | None,
) -> bool:
    """The end of a stage with enough; returns whether the cycle closes."""
    members: int | None = None
    if stage.name == KEYS:
        if isinstance(made, SecureAggregationError):
            return await _fail(grid, db, process, cycle, str(made))
        if made is None or set(made.places) != set(await queries.messages_of(db, cycle.id, KEYS)):
            return (
                False  # a worker came or left meanwhile: the stage is over all the same, and looked at again
            )
        members = len(made.places)
        announcement = made.terms.serialize()
        await queries.say(db, cycle.id, announcement=announcement, members=members)
        await queries.release_without_keys(db, cycle.id, made.places)
    elif stage.name == REPORTS:
        try:
            await _freeze(db, cycle, found)
        except SecureAggregationError as error:
            return await _fail(grid, db, process, cycle, str(error))
    elif stage.name == UNMASKING:
        await rounds.set_closing(db, cycle.id)
        return True
    await _enter(grid, db, process, cycle, _NEXT[stage.name])
    return False


async def _freeze(db: Db, cycle: Cycle, found: Settled | None) -> None:
    """Settles who has reported, before anybody is asked for a share: in the transaction that opens the stage.

    Raises:
        SecureRoundError: too few have, or they are not one group.
    """
    assert found is not None  # it was settled before this stage
    shared = [found.number(place) for place in await queries.senders(db, cycle.id, SHARES)]
    reported = [found.number(place) for place in await queries.senders(db, cycle.id, REPORTS)]
    lists = lists_of(found.terms, shared, reported)
    await queries.say(db, cycle.id, lists=lists.serialize(found.terms.parameters.workers))


async def _enter(grid: Grid, db: Db, process: Process, cycle: Cycle, name: str) -> None:
    config = process.server_config.secure_aggregation
    assert config is not None  # the caller looked: `is_secure`
    stage = next(stage for stage in secure_stages(config) if stage.name == name)
    await queries.enter(db, cycle.id, name, stage.deadline(grid.clock()))
    why = f"the stage '{cycle.stage}' has ended with enough"
    await record(grid, db, about(process, Kind.STAGE, why, cycle=cycle, stage=name))


async def _fail(grid: Grid, db: Db, process: Process, cycle: Cycle, why: str) -> bool:
    """Lets the round end without a sum, for good."""
    logger.warning("cycle %d of '%s' ends without a sum: %s", cycle.number, process.name, why)
    await queries.say(db, cycle.id, failure=why)
    await rounds.set_closing(db, cycle.id)
    return True


async def _announcement(
    grid: Grid, process: Process, cycle: Cycle
) -> _Announced | SecureAggregationError | None:
    """Manifest and roster of those who have told their keys; None of nobody; an error if that cannot be."""
    async with grid.store.reading() as db:
        keys = await queries.messages_of(db, cycle.id, KEYS)
        exponents = await queries.exponents_before(db, process.id, cycle.number)
    if not keys:
        return None
    received = await _received(grid, process, cycle)
    name = cycle_name(process.name, process.version, cycle.number)

    def make() -> _Announced | SecureAggregationError:
        try:
            roster = Roster.of(RosterMember.parse(message) for message in keys.values())
            scales = exponents or first_exponents(process.setting)
            manifest = manifest_of(process.setting, name, roster, received, scales)
            return _Announced(Terms.of(manifest, roster), tuple(keys))
        except SecureAggregationError as error:
            return error

    return await asyncio.to_thread(make)


async def _received(grid: Grid, process: Process, cycle: Cycle) -> Received:
    """Digests of what the workers download in a cycle."""
    hosted = await grid.known.of_cycle(cycle)
    checkpoint = await grid.known.checkpoint(cycle.checkpoint_id)
    blobs = filter(None, [checkpoint.blob, process.frozen])
    parts = [await grid.blobs.get(blob) for blob in blobs]
    plans = {
        f"{name}/{kind}": digest_of_bytes(await grid.blobs.get(variant.content))
        for name, plan in hosted.plans.items()
        for kind, variant in plan.variants.items()
    }
    model = await asyncio.to_thread(lambda: digest_of_tensors(_whole(parts)))
    return Received(model, plans, digest_of_config(process.setting.told_at(cycle.number)))


def _whole(parts: list[bytes]) -> list[WireTensor]:
    """The tensors of a model, in their order, from its State or from its two parts."""
    found: dict[int, WireTensor] = {}
    for data in parts:
        state = State.parse(data)
        tensors = state.tensors
        places = range(len(tensors)) if state.places is None else state.places
        found |= dict(zip(places, tensors, strict=True))
    return [found[place] for place in sorted(found)]
