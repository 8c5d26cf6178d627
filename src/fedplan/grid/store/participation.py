"""Queries about workers in cycles: places, request keys, and who waits.

What almost every call sends is built once: building a statement takes SQLAlchemy three times as long as
running it takes SQLite.
"""

import math
from collections.abc import Sequence

from sqlalchemy import ColumnElement, RowMapping, and_, bindparam, delete, exists, func, or_, select, update

from fedplan.federation import Task
from fedplan.grid.records import Assignment, Cycle, CycleSummary, Phase
from fedplan.grid.store.catalogue import deleted
from fedplan.grid.store.connection import Db
from fedplan.grid.store.tables import assignments, cycles, waiting

_LATEST_CYCLE = (
    select(cycles)
    .where(cycles.c.process_id == bindparam("process_id"))
    .order_by(cycles.c.number.desc())
    .limit(1)
)
_CYCLE = select(cycles).where(cycles.c.id == bindparam("cycle_id"))
_LOCKED = {query: query.with_for_update() for query in (_LATEST_CYCLE, _CYCLE)}

_PLACE_IN_CYCLE = select(assignments).where(
    assignments.c.cycle_id == bindparam("cycle_id"), assignments.c.worker_id == bindparam("worker_id")
)
_PLACE_OF_KEY = (
    select(
        assignments.c.id.label("place_id"),
        assignments.c.worker_id,
        *(assignments.c[name] for name in ("reported_at", "released", "aside", "grants", "lapses")),
        *(assignments.c[name] for name in ("declined", "digest")),
        *cycles.c,
    )
    .join(cycles, cycles.c.id == assignments.c.cycle_id)
    .where(assignments.c.key_digest == bindparam("key_digest"))
)

_ADD_PLACE = assignments.insert().values(
    {
        name: bindparam(name)
        for name in (
            *("cycle_id", "worker_id", "identity", "key_digest"),
            *("accepted_at", "released", "aside", "grants"),
        )
    }
)
_OCCUPY = update(cycles).where(cycles.c.id == bindparam("which")).values(occupied=cycles.c.occupied + 1)
_OCCUPY_AND_LOOK = _OCCUPY.returning(*cycles.c)
_SET_ASIDE = (
    update(cycles).where(cycles.c.id == bindparam("which")).values(evaluators=cycles.c.evaluators + 1)
)

_SILENT = and_(assignments.c.reported_at.is_(None), ~assignments.c.released)
_WAITED_FOR = and_(_SILENT, ~assignments.c.aside)
_VACATE = (
    update(cycles)
    .where(cycles.c.id == bindparam("which"))
    .values(occupied=cycles.c.occupied - bindparam("vacated"))
    .returning(*cycles.c)
)
_COUNT_REPORT = (
    update(cycles)
    .where(cycles.c.id == bindparam("which"), cycles.c.phase == Phase.OPEN)
    .values(reported=cycles.c.reported + bindparam("reports"))
    .returning(*cycles.c)
)
_OTHER = assignments.alias("other")
_OF_THE_SAME_IDENTITY = and_(
    _OTHER.c.identity == assignments.c.identity,
    _OTHER.c.cycle_id == assignments.c.cycle_id,
    _OTHER.c.id != assignments.c.id,
)
_IDENTITY_HAS_REPORTED = exists().where(_OF_THE_SAME_IDENTITY, _OTHER.c.reported_at.is_not(None))
_ADD_DIFF = (
    update(assignments)
    .where(
        assignments.c.id == bindparam("which"),
        assignments.c.key_digest == bindparam("digest"),
        assignments.c.reported_at.is_(None),
        ~assignments.c.declined,
        ~_IDENTITY_HAS_REPORTED,
    )
    .values(
        reported_at=bindparam("now"),
        diff=bindparam("blob"),
        counted_in=bindparam("counted"),
        digest=bindparam("told"),
        replica=bindparam("replica"),
    )
    .returning(assignments.c.released, assignments.c.identity)
)


async def latest_cycle(db: Db, process_id: int, *, lock: bool = False) -> Cycle:
    """The newest cycle of an FL process.

    Args:
        db: the connection.
        process_id: the FL process.
        lock: hold the cycle until the transaction ends, so that what is decided of it stays true.

    Raises:
        NotFoundError: the model was deleted.
    """
    query = _LOCKED[_LATEST_CYCLE] if lock else _LATEST_CYCLE
    values, before = {"process_id": process_id}, None
    while True:
        row = (await db.execute(query, values)).mappings().first()
        if row is None:
            raise deleted()
        latest = read_cycle(row)
        # one that is over may have been ended while PostgreSQL waited for it: the statement does not see
        # which cycle was opened then, but the next statement does
        if not lock or not latest.is_over or latest.id == before:
            return latest
        before = latest.id


async def get_cycle(db: Db, id: int, *, lock: bool = False) -> Cycle:
    """The cycle of an id; `lock`, and the error, as for `latest_cycle`."""
    query = _LOCKED[_CYCLE] if lock else _CYCLE
    row = (await db.execute(query, {"cycle_id": id})).mappings().first()
    if row is None:
        raise deleted()
    return read_cycle(row)


async def find_place(db: Db, cycle_id: int, worker_id: str) -> Assignment | None:
    """A worker's place in a cycle."""
    values = {"cycle_id": cycle_id, "worker_id": worker_id}
    row = (await db.execute(_PLACE_IN_CYCLE, values)).mappings().first()
    return None if row is None else _assignment(row, row["id"], cycle_id)


async def find_by_key(db: Db, key_digest: str) -> tuple[Assignment, Cycle] | None:
    """The place that a request key opens, and its cycle."""
    row = (await db.execute(_PLACE_OF_KEY, {"key_digest": key_digest})).mappings().first()
    return None if row is None else (_assignment(row, row["place_id"], row["id"]), read_cycle(row))


async def last_cycle_of(db: Db, identity: str, before: Cycle) -> int | None:
    """Number of the latest older cycle of the same FL process that took a worker to train."""
    query = (
        select(cycles.c.number)
        .join(assignments, assignments.c.cycle_id == cycles.c.id)
        .where(
            assignments.c.identity == identity,
            ~assignments.c.aside,
            assignments.c.cycle_id < before.id,
            cycles.c.process_id == before.process_id,
        )
        .order_by(assignments.c.cycle_id.desc())
        .limit(1)
    )
    number: int | None = await db.scalar(query)
    return number


async def places_of(db: Db, cycle_id: int, identity: str) -> Sequence[Assignment]:
    """The places in a cycle that workers of one identity have, or had."""
    query = select(assignments).where(assignments.c.identity == identity, assignments.c.cycle_id == cycle_id)
    rows = (await db.execute(query.order_by(assignments.c.id))).mappings()
    return [_assignment(row, row["id"], cycle_id) for row in rows]


async def add_place(
    db: Db,
    cycle: Cycle,
    task: Task,
    worker_id: str,
    identity: str,
    key_digest: str,
    now: float,
    *,
    instead_of: Assignment | None = None,
) -> None:
    """Gives a worker a place in a cycle, for a task.

    Args:
        db: the connection.
        cycle: the cycle.
        task: what the worker does there.
        worker_id: the worker.
        identity: see `auth.Worker`.
        key_digest: of its request key.
        now: the time.
        instead_of: the place of another worker of its identity, which it gets.
    """
    aside = task is not cycle.task
    values = {
        "cycle_id": cycle.id,
        "worker_id": worker_id,
        "identity": identity,
        "key_digest": key_digest,
        "accepted_at": now,
        "released": False,
        "aside": aside,
        "grants": 1,
    }
    await db.execute(_ADD_PLACE, values)
    if instead_of is None:
        await db.execute(_SET_ASIDE if aside else _OCCUPY, {"which": cycle.id})
    else:
        await _give_up(db, instead_of)


async def renew_place(
    db: Db,
    cycle: Cycle,
    place: Assignment,
    key_digest: str,
    now: float,
    *,
    instead_of: Assignment | None = None,
) -> None:
    """Gives a worker its place anew, with a new key; `instead_of` as for `add_place`."""
    renewed = update(assignments).where(assignments.c.id == place.id)
    aside = place.aside if instead_of is None else instead_of.aside
    values = {"key_digest": key_digest, "accepted_at": now, "released": False, "grants": place.grants + 1}
    await db.execute(renewed.values(values | {"aside": aside, "declined": False}))
    if instead_of is not None:
        await _give_up(db, instead_of)
    elif place.released and not place.aside:
        await db.execute(_OCCUPY, {"which": cycle.id})


async def _give_up(db: Db, place: Assignment) -> None:
    """Takes a place that another worker gets: the cycle counts as many as before."""
    await db.execute(update(assignments).where(assignments.c.id == place.id).values(released=True))


async def add_report(
    db: Db, place: Assignment, key_digest: str, blob: str, digest: str, now: float, replica: str, *, into: int
) -> Cycle | None:
    """Stores a worker's report, and returns the cycle that it goes into, as it is with the report.

    Args:
        db: the connection.
        place: the worker's.
        key_digest: of its key.
        blob: where the report is.
        digest: of the report.
        now: the time.
        replica: which replica adds it up.
        into: the cycle.

    None when the cycle, the place or its key is not any more what it was when the place was found: then the
    caller must raise, so that nothing stays. The cycle comes first: from there on nobody else changes it.
    """
    counts = {"which": into, "reports": 0 if place.aside else 1}
    row = (await db.execute(_COUNT_REPORT, counts)).mappings().first()
    if row is None:
        return None
    values = {"which": place.id, "digest": key_digest, "now": now, "blob": blob, "counted": into}
    values |= {"told": digest, "replica": replica}
    added = (await db.execute(_ADD_DIFF, values)).first()
    if added is None:
        return None
    if added.released:
        await _release_others(db, place.cycle_id, added.identity)
        row = (await db.execute(_CYCLE, {"cycle_id": into})).mappings().one()
    lacks_place = added.released or into != place.cycle_id
    if lacks_place and not place.aside:  # it is none of those that the cycle counts
        row = (await db.execute(_OCCUPY_AND_LOOK, {"which": into})).mappings().one()
    return read_cycle(row)


async def _release_others(db: Db, cycle_id: int, identity: str) -> None:
    """Takes the place that another worker of one identity has, since the identity has reported."""
    held = and_(assignments.c.cycle_id == cycle_id, assignments.c.identity == identity, _WAITED_FOR)
    places = (await db.execute(update(assignments).where(held).values(released=True))).rowcount
    if places:
        await db.execute(_VACATE, {"which": cycle_id, "vacated": places})


async def identity_has_reported(db: Db, place: Assignment) -> bool:
    """Whether another worker of the same identity has reported in a worker's cycle."""
    return bool(await db.scalar(select(_IDENTITY_HAS_REPORTED).where(assignments.c.id == place.id)))


async def release_place(db: Db, place: Assignment, key_digest: str) -> Cycle | None:
    """Takes the place of a worker that gives it back; returns its cycle as it is then.

    None when there is nothing to take: it was released, has reported or has another key by now, or its cycle
    takes no reports any more.
    """
    cycle = await get_cycle(db, place.cycle_id, lock=True)
    if not cycle.is_open:
        return None
    held = and_(assignments.c.id == place.id, assignments.c.key_digest == key_digest, _SILENT)
    given_back = update(assignments).where(held).values(released=True, declined=True)
    if (await db.execute(given_back)).rowcount == 0:
        return None
    vacated = await db.execute(_VACATE, {"which": cycle.id, "vacated": 0 if place.aside else 1})
    return read_cycle(vacated.mappings().one())


async def first_silent(db: Db, cycle_id: int) -> float | None:
    """When the first of those workers took its place that the cycle waits for."""
    taken: float | None = await db.scalar(
        select(func.min(assignments.c.accepted_at)).where(assignments.c.cycle_id == cycle_id, _WAITED_FOR)
    )
    return taken


async def release_silent(db: Db, cycle_id: int, taken_by: float) -> tuple[Sequence[str], Cycle] | None:
    """Takes the places of the workers that took them by a time, and that the cycle still waits for.

    Returns:
        The workers, and the cycle as it is then; None when it takes no reports any more, or is paused.
    """
    cycle = await get_cycle(db, cycle_id, lock=True)
    if not cycle.is_open or cycle.paused_at is not None:
        return None
    gone = and_(assignments.c.cycle_id == cycle_id, assignments.c.accepted_at <= taken_by, _WAITED_FOR)
    workers = await _release(db, gone)
    row = (await db.execute(_VACATE, {"which": cycle_id, "vacated": len(workers)})).mappings().one()
    return workers, read_cycle(row)


async def release_places(db: Db, cycle_id: int) -> Sequence[str]:
    """Takes the places of the workers that have not reported, but for those that only measure the model.

    Returns:
        The workers.
    """
    workers = await _release(db, and_(assignments.c.cycle_id == cycle_id, _WAITED_FOR))
    await db.execute(update(cycles).where(cycles.c.id == cycle_id).values(occupied=cycles.c.reported))
    return workers


async def _release(db: Db, places: ColumnElement[bool]) -> Sequence[str]:
    """Takes places; returns the workers that had them, in the order of joining."""
    taken = update(assignments).where(places).values(released=True, lapses=assignments.c.lapses + 1)
    rows = await db.execute(taken.returning(assignments.c.id, assignments.c.worker_id))
    return [row.worker_id for row in sorted(rows, key=lambda row: row.id)]


async def count_waiting(db: Db, process_id: int, without: str, now: float) -> int:
    """How many identities, but for one, wait for a place."""
    query = select(func.count()).where(
        waiting.c.process_id == process_id, waiting.c.until > now, waiting.c.worker_id != without
    )
    return int(await db.scalar(query) or 0)


async def note_waiting(db: Db, process_id: int, identity: str, until: float | None, now: float) -> None:
    """Notes until when an identity waits (None: it does not), and forgets those whose time is over."""
    gone = or_(waiting.c.worker_id == identity, waiting.c.until <= now)
    await db.execute(delete(waiting).where(waiting.c.process_id == process_id, gone))
    if until is not None:
        values = {"process_id": process_id, "worker_id": identity, "until": until}
        await db.execute(waiting.insert(), values)


def read_cycle(row: RowMapping) -> Cycle:
    """A cycle from its row."""
    waits = row["paused_at"] is None or row["deadline"] is None
    return Cycle(
        id=row["id"],
        process_id=row["process_id"],
        number=row["number"],
        phase=Phase(row["phase"]),
        checkpoint_id=row["checkpoint_id"],
        opened_at=row["opened_at"],
        deadline=row["deadline"] if waits else math.inf,
        occupied=row["occupied"],
        reported=row["reported"],
        closed_at=row["closed_at"],
        failure=row["failure"],
        summary=None if row["summary"] is None else CycleSummary.from_json(row["summary"]),
        task=Task(row["task"]),
        evaluators=row["evaluators"],
        damaged=row["damaged"],
        stage=row["stage"],
        places=row["places"],
        revision=row["revision"],
        paused_at=row["paused_at"],
        ordered_end=row["ordered_end"],
    )


def _assignment(row: RowMapping, id: int, cycle_id: int) -> Assignment:
    return Assignment(
        id=id,
        cycle_id=cycle_id,
        worker_id=row["worker_id"],
        reported=row["reported_at"] is not None,
        released=row["released"],
        aside=row["aside"],
        grants=row["grants"],
        lapses=row["lapses"],
        declined=row["declined"],
        digest=row["digest"],
    )
