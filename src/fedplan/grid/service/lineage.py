"""The checkpoints of a model: what they are, and how its owner goes back to an older one.

An older one becomes the newest as a copy with a number of its own, with what the strategy remembered at it.
So numbers only grow, and none ever means two things. The training goes on from the copy. The cycle that is
under way is dropped, since its workers train what is not the newest any more; nor does a report count that
comes late from there (`processes.restarted_after`).
"""

import logging
from typing import Literal

from fedplan.errors import ModelStateError, NotFoundError
from fedplan.federation import Task
from fedplan.federation.goals import best_of
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Checkpoint, Cycle, Process
from fedplan.grid.service import diffs
from fedplan.grid.service.closing import drop
from fedplan.grid.service.events import about, record
from fedplan.grid.service.status import moment
from fedplan.grid.store import catalogue, participation
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import (
    CheckpointRow,
    CheckpointsReply,
    CheckpointsRequest,
    PromoteReply,
    PromoteRequest,
    RollBackRequest,
)

logger = logging.getLogger(__name__)


async def checkpoints(grid: Grid, request: CheckpointsRequest) -> CheckpointsReply:
    """All checkpoints of a model, the newest first.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(request.name, request.version)
    goal, best = process.server_config.best, None
    if goal is not None:
        best = best_of(goal, await grid.known.metric_by_checkpoint(process.id, goal.metric))
    async with grid.store.reading(long=True) as db:
        found = await catalogue.checkpoints_of(db, process.id)
    names: dict[int | None, list[Literal["latest", "best"]]] = {best: ["best"]}
    for one in found[:1]:
        names[one.number] = ["latest", *names.get(one.number, [])]
    return CheckpointsReply(
        checkpoints=[
            CheckpointRow(
                number=one.number,
                created_at=moment(one.created_at),
                cycle=one.cycle,
                source=one.source,
                dropped=one.dropped or None,
                deleted=True if one.deleted_at is not None else None,
                aliases=names.get(one.number, []),
            )
            for one in found
        ]
    )


async def promote(grid: Grid, request: PromoteRequest) -> PromoteReply:
    """Makes a copy of a checkpoint the newest one, from which the training goes on.

    Doing it again changes nothing.

    Raises:
        NotFoundError: there is no such model or checkpoint.
        ModelStateError: the checkpoint is deleted, as the server_config has it.
    """
    return await _go_back(grid, request, drops=False)


async def roll_back(grid: Grid, request: RollBackRequest) -> PromoteReply:
    """As `promote`, and drops the checkpoints between the two: they are not to be had any more.

    Raises:
        NotFoundError: there is no such model or checkpoint.
        ModelStateError: the checkpoint was dropped itself, or is deleted, as the server_config has it.
    """
    return await _go_back(grid, request, drops=True)


async def _go_back(grid: Grid, request: PromoteRequest, *, drops: bool) -> PromoteReply:
    process = await grid.known.find(request.name, request.version)
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        wanted = await _wanted(db, process, request.checkpoint)
        if drops and wanted.dropped:
            raise ModelStateError(
                f"checkpoint {wanted.number} of {process.named} was dropped; `fedplan checkpoint promote` "
                "makes it the newest again"
            )
        newest = await catalogue.latest_checkpoint(db, process.id)
        if wanted.number not in (newest.number, newest.source):
            newest = await _copy(grid, db, process, cycle, wanted)
        if drops:
            await catalogue.drop_between(db, process.id, wanted.number, newest.number)
        why = f"its owner asked for it: checkpoint {newest.number} is the newest, as {wanted.number} was"
        kind = Kind.ROLLED_BACK if drops else Kind.PROMOTED
        told = about(process, kind, why, cycle=cycle, checkpoint=newest.number, source=wanted.number)
        await record(grid, db, told)
        now = await participation.latest_cycle(db, process.id)
    if now.id != cycle.id:
        await diffs.forget(grid, cycle.id, process)
    grid.closable.set()
    logger.info("checkpoint %d of %s is the newest: %d", wanted.number, process.named, newest.number)
    starts = not now.is_over and now.checkpoint_id == newest.id
    return PromoteReply(checkpoint=newest.number, cycle=now.number if starts else None)


async def _wanted(db: Db, process: Process, number: int) -> Checkpoint:
    wanted = await catalogue.find_checkpoint(db, process.id, number)
    if wanted is None:
        raise NotFoundError(
            f"{process.named} has no checkpoint {number}; `fedplan checkpoint list` shows those that it has"
        )
    if wanted.deleted_at is not None:
        raise ModelStateError(
            f"checkpoint {number} of {process.named} is deleted, as its server_config has it "
            "(keep_checkpoints): there is nothing to go back to. `fedplan checkpoint list` shows what is left"
        )
    return wanted


async def _copy(grid: Grid, db: Db, process: Process, cycle: Cycle, wanted: Checkpoint) -> Checkpoint:
    """Makes a checkpoint the newest one; a cycle of training that is under way begins anew from it."""
    number = await catalogue.next_number(db, process.id)
    today = grid.clock.wall()
    await catalogue.add_checkpoint(
        db, process.id, number, wanted.blob, today, wanted.state, source=wanted.number
    )
    await catalogue.restart_after(db, process.id, cycle.number)
    if cycle.task is Task.TRAINING and not cycle.is_over:
        why = f"the model's owner has checkpoint {number}, a copy of {wanted.number}, trained on instead"
        await drop(grid, db, await catalogue.get_process(db, process.id), cycle, why)
    return await catalogue.latest_checkpoint(db, process.id)
