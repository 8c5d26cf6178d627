"""Queries for the owner's view: models with their cycles and checkpoints, in a fixed number of queries."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, RowMapping, ScalarSelect, Select, Table, and_, func, select

from fedplan.grid.records import Checkpoint, Cycle, CycleSummary, HostedPlan, Phase, Process
from fedplan.grid.store import catalogue
from fedplan.grid.store.catalogue import read_checkpoint, read_process
from fedplan.grid.store.connection import Db
from fedplan.grid.store.participation import read_cycle
from fedplan.grid.store.tables import checkpoints, cycles, processes

CHECKPOINTS_SHOWN = 100
"""How many of a model's checkpoints are listed."""

_LOOKS = 5


@dataclasses.dataclass(frozen=True, slots=True)
class Overview:
    """What is known of the hosted models.

    Attributes:
        processes: the FL processes, by name and age.
        cycles: the latest cycle of each, by the process's id.
        checkpoints: the newest checkpoints of each, newest first.
        failed: the latest failed cycle of each, where one failed.
        plans: the Plans of each, by name.
    """

    processes: Sequence[Process]
    cycles: Mapping[int, Cycle]
    checkpoints: Mapping[int, Sequence[Checkpoint]]
    failed: Mapping[int, Cycle]
    plans: Mapping[int, Mapping[str, HostedPlan]]


async def overview(db: Db, name: str | None) -> Overview:
    """All models, or those of one name."""
    wanted = _only(select(processes), name).order_by(processes.c.name, processes.c.id)
    found = [read_process(row) for row in (await db.execute(wanted)).mappings()]
    newest = cycles.c.number == _greatest(cycles)
    failed = cycles.c.number == _greatest(cycles, phase=Phase.FAILED)
    shown = and_(
        checkpoints.c.number > _greatest(checkpoints) - CHECKPOINTS_SHOWN,
        checkpoints.c.deleted_at.is_(None),
        ~checkpoints.c.dropped,
    )
    listed: dict[int, list[Checkpoint]] = {}
    failures: Sequence[RowMapping] = ()
    latest = await _of_each(db, cycles, newest, name)
    for _ in range(_LOOKS):  # each statement sees what is committed then: a cycle may end between two
        before = latest
        listed = {process.id: [] for process in found}
        for row in await _of_each(db, checkpoints, shown, name):
            listed.setdefault(row["process_id"], []).append(read_checkpoint(row))
        failures = await _of_each(db, cycles, failed, name)
        latest = await _of_each(db, cycles, newest, name)
        if before == latest:
            break
    current = {row["process_id"]: read_cycle(row) for row in latest}
    return Overview(
        [process for process in found if process.id in current],  # others were deleted meanwhile
        current,
        {id: sorted(some, key=lambda one: -one.number) for id, some in listed.items()},
        {row["process_id"]: read_cycle(row) for row in failures},
        await catalogue.hosted_plans(db, *_named(name)),
    )


async def last_summaries(db: Db) -> Mapping[int, CycleSummary]:
    """By the process's id, what came of its latest cycle that ended without a failure."""
    done = cycles.c.number == _greatest(cycles, phase=Phase.DONE)
    found = [read_cycle(row) for row in await _of_each(db, cycles, done, None)]
    return {cycle.process_id: cycle.summary for cycle in found if cycle.summary is not None}


def _only(query: Select[Any], name: str | None) -> Select[Any]:
    return query.where(*_named(name))


def _named(name: str | None) -> Sequence[ColumnElement[bool]]:
    return () if name is None else (processes.c.name == name,)


async def _of_each(
    db: Db, table: Table, condition: ColumnElement[bool], name: str | None
) -> Sequence[RowMapping]:
    """The rows of each process that meet a condition.

    The outer join is for the database's planner: it has to go through the processes, and finds the few rows
    of each by index, where it might otherwise go through the whole table.
    """
    theirs = and_(table.c.process_id == processes.c.id, condition)
    query = _only(select(table).select_from(processes.outerjoin(table, theirs)), name)
    return [row for row in (await db.execute(query)).mappings() if row["id"] is not None]


def _greatest(table: Table, phase: Phase | None = None) -> ScalarSelect[Any]:
    """The greatest number among the rows of the same process."""
    other = table.alias()
    query = select(func.max(other.c.number)).where(other.c.process_id == processes.c.id)
    if phase is not None:
        query = query.where(other.c.phase == phase)
    return query.correlate(processes).scalar_subquery()
