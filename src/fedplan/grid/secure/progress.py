"""How far a stage of a secure round is, and what happens when nobody is missing any more."""

import dataclasses

from fedplan.federation import GATHER, KEYS, Stage, Task, secure_stages
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Process
from fedplan.grid.secure import queries
from fedplan.grid.store import participation
from fedplan.grid.store.connection import Db


def is_secure(process: Process, cycle: Cycle) -> bool:
    """Whether a cycle adds its reports up by secure aggregation."""
    return process.server_config.secure_aggregation is not None and cycle.task is Task.TRAINING


async def stage_of(db: Db, process: Process, cycle: Cycle) -> tuple[Stage, Cycle]:
    """The present stage of a secure cycle, and the cycle as the stage counts: who has come, and who may."""
    config = process.server_config.secure_aggregation
    assert config is not None  # the caller looked: `is_secure`
    members = (await queries.said(db, cycle.id)).members
    stage = next(stage for stage in secure_stages(config, members) if stage.name == cycle.stage)
    if stage.name == GATHER:
        return stage, dataclasses.replace(cycle, reported=cycle.occupied, occupied=config.workers)
    came = await queries.came(db, cycle.id, stage.name)
    may_come = cycle.occupied if stage.name == KEYS else await queries.awaited(db, cycle.id, stage.name)
    return stage, dataclasses.replace(cycle, reported=came, occupied=may_come)


async def heed(grid: Grid, db: Db, process: Process, cycle_id: int) -> bool:
    """Lets the stage of a secure cycle end if nobody is missing, or too many are; the closer does the rest.

    Returns:
        Whether it ends: then the closer is to be woken, after the transaction.
    """
    cycle = await participation.get_cycle(db, cycle_id, lock=True)
    if not cycle.is_open or not is_secure(process, cycle):
        return False
    now = grid.clock()
    stage, progress = await stage_of(db, process, cycle)
    ends = stage.is_complete(progress, now) or stage.is_lost(progress, now)
    if ends:
        await queries.end_stage(db, cycle_id, now)
    return ends
