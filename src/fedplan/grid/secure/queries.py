"""Queries about secure rounds: what workers have sent, and what the grid has said."""

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import and_, exists, func, select, update

from fedplan.federation import KEYS, REPORTS, SHARES, UNMASKING
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, cycles, secure_messages, secure_rounds

_BEFORE = {SHARES: KEYS, REPORTS: SHARES, UNMASKING: REPORTS}
"""Who may send something at a stage has sent something at the one before."""


@dataclasses.dataclass(frozen=True, slots=True)
class Said:
    """What the grid has said in a secure round.

    Attributes:
        members: how many workers are in it; None before that is settled.
        announcement: manifest and roster.
        lists: who has reported and who is missing.
        failure: why it ends without a sum.
    """

    members: int | None = None
    announcement: bytes | None = None
    lists: bytes | None = None
    failure: str | None = None


async def said(db: Db, cycle_id: int) -> Said:
    """What the grid has said in a cycle."""
    columns = (secure_rounds.c[field.name] for field in dataclasses.fields(Said))
    row = (await db.execute(select(*columns).where(secure_rounds.c.cycle_id == cycle_id))).first()
    return Said() if row is None else Said(*row)


async def say(db: Db, cycle_id: int, **values: Any) -> None:
    """Notes what the grid says in a cycle; see the table."""
    changed = update(secure_rounds).where(secure_rounds.c.cycle_id == cycle_id).values(values)
    if (await db.execute(changed)).rowcount == 0:
        await db.execute(secure_rounds.insert(), {"cycle_id": cycle_id, **values})


async def note_exponents(db: Db, cycle_id: int, exponents: Sequence[int]) -> None:
    """Keeps the scales that a cycle leaves for the next; nothing if its model was deleted meanwhile."""
    mine = secure_rounds.c.cycle_id == cycle_id
    await db.execute(update(secure_rounds).where(mine).values(exponents=json.dumps(list(exponents))))


async def exponents_before(db: Db, process_id: int, number: int) -> tuple[int, ...] | None:
    """The scales that the latest cycle before one has left for the next; None where there is none."""
    query = (
        select(secure_rounds.c.exponents)
        .join(cycles, cycles.c.id == secure_rounds.c.cycle_id)
        .where(
            cycles.c.process_id == process_id,
            cycles.c.number < number,
            secure_rounds.c.exponents.is_not(None),
        )
        .order_by(cycles.c.number.desc())
        .limit(1)
    )
    text = await db.scalar(query)
    return None if text is None else tuple(json.loads(text))


async def add_message(
    db: Db, place_id: int, cycle_id: int, stage: str, digest: str, content: bytes | None
) -> None:
    """Keeps a worker's message of a stage; of a masked report, which is a blob, the digest alone."""
    values = {
        "assignment_id": place_id,
        "stage": stage,
        "cycle_id": cycle_id,
        "digest": digest,
        "content": content,
    }
    await db.execute(secure_messages.insert(), values)


async def digest_of(db: Db, place_id: int, stage: str) -> str | None:
    """The digest of what a worker has sent at a stage; None when it has sent nothing."""
    query = select(secure_messages.c.digest).where(
        secure_messages.c.assignment_id == place_id, secure_messages.c.stage == stage
    )
    digest: str | None = await db.scalar(query)
    return digest


async def messages_of(db: Db, cycle_id: int, stage: str) -> dict[int, bytes]:
    """What workers have sent at a stage, by their places; of keys, those of workers that still have one."""
    query = (
        select(secure_messages.c.assignment_id, secure_messages.c.content)
        .join(assignments, assignments.c.id == secure_messages.c.assignment_id)
        .where(secure_messages.c.cycle_id == cycle_id, secure_messages.c.stage == stage)
        .order_by(secure_messages.c.assignment_id)
    )
    if stage == KEYS:
        query = query.where(~assignments.c.released)
    return {row.assignment_id: row.content or b"" for row in await db.execute(query)}


async def keys_of_roster(db: Db, cycle_id: int) -> dict[int, bytes]:
    """The keys of all that sent some, by their places, also of those that have left since."""
    query = select(secure_messages.c.assignment_id, secure_messages.c.content).where(
        secure_messages.c.cycle_id == cycle_id, secure_messages.c.stage == KEYS
    )
    return {row.assignment_id: row.content or b"" for row in await db.execute(query)}


async def senders(db: Db, cycle_id: int, stage: str) -> frozenset[int]:
    """The places of those who have sent something at a stage."""
    query = select(secure_messages.c.assignment_id).where(
        secure_messages.c.cycle_id == cycle_id, secure_messages.c.stage == stage
    )
    return frozenset(await db.scalars(query))


async def came(db: Db, cycle_id: int, stage: str) -> int:
    """How many messages of a stage count; of keys, those of workers that still have a place."""
    query = select(func.count()).where(
        secure_messages.c.cycle_id == cycle_id, secure_messages.c.stage == stage
    )
    if stage == KEYS:
        query = query.where(assignments.c.id == secure_messages.c.assignment_id, ~assignments.c.released)
    return int(await db.scalar(query) or 0)


async def awaited(db: Db, cycle_id: int, stage: str) -> int:
    """How many may send something at a stage after that of keys, those included that have."""
    has_sent = exists().where(
        secure_messages.c.assignment_id == assignments.c.id, secure_messages.c.stage == stage
    )
    before = secure_messages.alias("before")
    query = (
        select(func.count())
        .select_from(before)
        .join(assignments, assignments.c.id == before.c.assignment_id)
        .where(
            before.c.cycle_id == cycle_id,
            before.c.stage == _BEFORE[stage],
            ~assignments.c.released | has_sent,
        )
    )
    return int(await db.scalar(query) or 0)


async def drop_keys(db: Db, place_id: int) -> None:
    """Forgets the keys of a worker that gives its place back before it is settled who is in the round."""
    mine = and_(secure_messages.c.assignment_id == place_id, secure_messages.c.stage == KEYS)
    await db.execute(secure_messages.delete().where(mine))


async def release_without_keys(db: Db, cycle_id: int, members: Sequence[int]) -> None:
    """Takes the places of all but some workers; from then on the cycle counts these."""
    others = and_(assignments.c.cycle_id == cycle_id, assignments.c.id.not_in(members))
    await db.execute(update(assignments).where(others).values(released=True))
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(occupied=len(members)))


async def reports_of(db: Db, cycle_id: int) -> dict[int, str]:
    """The keys of the masked reports' blobs, by the workers' places."""
    query = select(assignments.c.id, assignments.c.diff).where(
        assignments.c.counted_in == cycle_id, assignments.c.diff.is_not(None)
    )
    return {row.id: row.diff for row in await db.execute(query)}


async def enter(db: Db, cycle_id: int, stage: str, deadline: float | None) -> None:
    """Brings a cycle to a stage."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(stage=stage, deadline=deadline))


async def end_stage(db: Db, cycle_id: int, now: float) -> None:
    """Lets the present stage of a cycle be over."""
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(deadline=now))


async def forget(db: Db, cycle_id: int) -> None:
    """Forgets what workers have sent in a cycle that has ended; digests stay."""
    mine = secure_messages.c.cycle_id == cycle_id
    await db.execute(update(secure_messages).where(mine).values(content=None))
