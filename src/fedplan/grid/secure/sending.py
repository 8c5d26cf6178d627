"""What a worker sends at a stage of a secure round: checked, on disk, and only then acknowledged."""

import asyncio
import binascii
import dataclasses
import hashlib

import pybase64

from fedplan.errors import InvalidRequestError, ReportConflictError, SecureMessageError
from fedplan.federation import GATHER, KEYS, REPORTS, SHARES, UNMASKING
from fedplan.federation.secure import (
    RosterMember,
    check_answer,
    check_report,
    check_shares,
)
from fedplan.grid.blobs.checksum import mark_in_thread
from fedplan.grid.grid import Grid
from fedplan.grid.identity.auth import key_digest
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Assignment, Cycle, Phase, Process
from fedplan.grid.secure import queries
from fedplan.grid.secure.progress import heed, is_secure
from fedplan.grid.secure.settled import settled, with_shares
from fedplan.grid.service.access import find_place
from fedplan.grid.service.diffs import forget, group_of
from fedplan.grid.service.events import about, record
from fedplan.grid.service.receiving import Given, receiving
from fedplan.grid.store import participation
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import SENT_OTHERWISE, SecureSendKeys, SecureSendRequest, Success
from fedplan.wire.scalars import Buffer


@dataclasses.dataclass(frozen=True, slots=True)
class _Sent:
    """A message, and who sent it."""

    keys: SecureSendKeys
    content: bytes
    digest: str
    process: Process
    place: Assignment
    cycle: Cycle

    @property
    def stage(self) -> str:
        return self.keys.stage


async def send(grid: Grid, request: SecureSendRequest) -> Success:
    """Takes a worker's message of a stage of a secure round.

    The same message may come again, for its answer may have been lost.

    Raises:
        AccessDeniedError: the request key was not given to this worker.
        OverloadedError: more reports came than the grid can take.
        InvalidRequestError: it is no base64, or the worker's cycle is no secure round.
        ReportConflictError: the stage is over, or has not begun.
        SecureMessageError: the message does not fit, or the worker has sent another one.
    """
    try:
        message = pybase64.b64decode(request.message, validate=True)
    except (binascii.Error, ValueError):
        raise InvalidRequestError("the message is not base64") from None
    return await send_bytes(grid, request, message)


async def send_bytes(grid: Grid, keys: SecureSendKeys, message: Buffer) -> Success:
    """Like `send`, for a message that came as its own bytes."""
    content = bytes(message)
    if keys.stage == REPORTS:
        async with receiving(grid, keys.worker_id) as given:
            await _take(grid, keys, content, given)
    else:
        await _take(grid, keys, content, Given())
    return Success()


async def _take(grid: Grid, keys: SecureSendKeys, content: bytes, told: Given) -> None:
    digest = hashlib.sha256(content).hexdigest()
    async with grid.store.reading() as db:
        place, cycle = await find_place(db, keys.worker_id, keys.request_key)
        before = await queries.digest_of(db, place.id, keys.stage)
    process = (await grid.known.of_cycle(cycle)).process
    told.process, told.cycle = process, cycle
    if not is_secure(process, cycle) or place.aside:
        raise InvalidRequestError("the worker's cycle does not add reports up by secure aggregation")
    if before is not None:
        _check_same(before, digest)
        return
    if await _is_late_answer(grid, keys.stage, place, cycle):
        return
    _check_stage(keys.stage, cycle)
    sent = _Sent(keys, content, digest, process, place, cycle)
    await _check_content(grid, sent)
    await (_keep_report if sent.stage == REPORTS else _keep)(grid, sent)


async def _is_late_answer(grid: Grid, stage: str, place: Assignment, cycle: Cycle) -> bool:
    """Whether it is a worker's help that is not needed any more: its report is in the sum all the same."""
    if stage != UNMASKING or cycle.phase is Phase.OPEN or not place.reported:
        return False
    async with grid.store.reading() as db:
        said = await queries.said(db, cycle.id)
    return said.lists is not None


async def _check_content(grid: Grid, sent: _Sent) -> None:
    """Refuses a message that does not fit; those of keys are looked at when they are kept."""
    cycle_id = sent.cycle.id
    found = await settled(grid, cycle_id)
    if sent.stage == KEYS or found is None:
        return
    if sent.place.id not in found.numbers:
        raise ReportConflictError("the round began without this worker: its keys came too late")
    number, terms = found.numbers[sent.place.id], found.terms
    if sent.stage == SHARES:
        await asyncio.to_thread(check_shares, terms, number, sent.content)
    elif sent.stage == REPORTS:
        shared = (await with_shares(grid, cycle_id, found)).shared or {}
        await asyncio.to_thread(check_report, terms, shared, None, number, sent.content)
    else:
        async with grid.store.reading() as db:
            said = await queries.said(db, cycle_id)
        if said.lists is None:
            raise ReportConflictError("nobody was asked yet who has reported")
        await asyncio.to_thread(check_answer, terms, found.lists(said.lists), number, sent.content)


async def _keep(grid: Grid, sent: _Sent) -> None:
    place, cycle = sent.place, sent.cycle
    member = await asyncio.to_thread(RosterMember.parse, sent.content) if sent.stage == KEYS else None
    async with grid.store.writing() as db:
        if not await _is_due(db, sent):
            return
        if member is not None:
            await _check_new(db, cycle, member)
        await queries.add_message(db, place.id, cycle.id, sent.stage, sent.digest, sent.content)
        ends = await heed(grid, db, sent.process, cycle.id)
    if ends:
        grid.closable.set()


async def _keep_report(grid: Grid, sent: _Sent) -> None:
    """Like `_keep`: the bytes are a blob, which is on disk before the row that names it."""
    place, cycle, process = sent.place, sent.cycle, sent.process
    mark = await mark_in_thread(sent.content)
    try:
        blob = await grid.blobs.add(group_of(grid, cycle.id), sent.content, mark)
        async with grid.store.writing() as db:
            if not await _is_due(db, sent):
                return
            today, key = grid.clock.wall(), key_digest(sent.keys.request_key)
            into = cycle.id
            taken = await participation.add_report(db, place, key, blob, mark, today, grid.replica, into=into)
            if taken is None:
                raise ReportConflictError("its cycle is over, or its place is gone")
            await queries.add_message(db, place.id, cycle.id, REPORTS, sent.digest, None)
            why = "it came under masks, and is on disk"
            happened = about(process, Kind.REPORTED, why, cycle=cycle, worker_id=place.worker_id)
            await record(grid, db, happened)
            ends = await heed(grid, db, process, cycle.id)
    except (FileNotFoundError, ReportConflictError):
        async with grid.store.reading() as db:
            is_over = (await participation.get_cycle(db, cycle.id)).is_over
        if is_over:
            await forget(grid, cycle.id, process)
        raise ReportConflictError("the report comes too late: it is not kept") from None
    if ends:
        grid.closable.set()


async def _is_due(db: Db, sent: _Sent) -> bool:
    """Whether a message is to be kept; it is not when the same one came at the same time.

    Raises:
        AccessDeniedError: the place has got another key meanwhile.
        ReportConflictError: the stage is over, or the worker has given its place back.
        SecureMessageError: another message came at the same time.
    """
    now = await participation.get_cycle(db, sent.cycle.id, lock=True)
    place, _ = await find_place(db, sent.keys.worker_id, sent.keys.request_key)
    before = await queries.digest_of(db, place.id, sent.stage)
    if before is not None:
        _check_same(before, sent.digest)
        return False
    _check_stage(sent.stage, now)
    if place.released:
        raise ReportConflictError("the worker has given its place in the round back, or lost it")
    return True


async def _check_new(db: Db, cycle: Cycle, member: RosterMember) -> None:
    """Refuses keys that another worker of the cycle has.

    This runs under the cycle's lock for each worker, so the others' messages are not parsed again: a message
    holds its keys as they are, and 32 random bytes are in another one only if it has the same key.
    """
    own = [key for key in (member.mask_key, member.share_key, member.identity) if key]
    for other in (await queries.messages_of(db, cycle.id, KEYS)).values():
        if any(key in other for key in own):
            raise SecureMessageError("a worker with the same key or identity is in the round already")


def _check_same(before: str, digest: str) -> None:
    if before != digest:
        raise SecureMessageError(f"{SENT_OTHERWISE}, and that counts")


def _check_stage(stage: str, cycle: Cycle) -> None:
    """Refuses a message that does not belong to the present stage of its cycle."""
    taken = (GATHER, KEYS) if stage == KEYS else (stage,)
    if not cycle.is_open or cycle.stage not in taken:
        where = f"at its stage '{cycle.stage}'" if cycle.is_open else "over"
        raise ReportConflictError(
            f"the round does not take what workers send at the stage '{stage}': it is {where}"
        )
