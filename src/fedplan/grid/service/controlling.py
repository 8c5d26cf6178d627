"""What a model's owner may do while it is trained: pause it, stop it, extend it, change its configurations.

Each is one transaction that holds the model's latest cycle, so that no replica closes it, and no worker joins
it, between what is read and what is written.
"""

import logging

from fedplan.errors import ConfigError, ModelStateError
from fedplan.federation import Task
from fedplan.federation.goals import is_reached
from fedplan.federation.privacy import why_budget_is_spent
from fedplan.federation.schedule import check_schedules
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Cycle, Process
from fedplan.grid.secure.progress import heed
from fedplan.grid.service import diffs
from fedplan.grid.service.closing import drop, too_few
from fedplan.grid.service.events import about, record
from fedplan.grid.service.opening import open_cycle
from fedplan.grid.service.reconfiguring import examined
from fedplan.grid.service.status import moment
from fedplan.grid.store import catalogue, participation, rounds, spendings
from fedplan.grid.store.connection import Db
from fedplan.text import counted
from fedplan.wire.config import parse_server_config
from fedplan.wire.messages import (
    ExtendReply,
    ExtendRequest,
    PauseRequest,
    ResumeRequest,
    SetReply,
    SetRequest,
    StopReply,
    StopRequest,
    Success,
)

logger = logging.getLogger(__name__)

_ASKED = "its owner asked for it"


async def pause(grid: Grid, request: PauseRequest) -> Success:
    """Lets no new worker join a model. Workers that are in its cycle may report; no time closes it.

    Doing it again changes nothing.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: its reports are added up by secure aggregation.
        ModelStateError: it is not trained or measured any more.
    """
    process = await grid.known.find(request.name, request.version)
    if process.server_config.secure_aggregation is not None:
        raise ConfigError(
            f"{process.named} cannot be paused: its workers hold keys for one secure round, and wait for "
            "each other from stage to stage. `fedplan model stop` ends the training, and `fedplan model "
            "extend` lets it go on later"
        )
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        if cycle.is_over:
            raise ModelStateError(f"{process.named} takes no workers: its training has ended")
        if cycle.paused_at is None:
            await rounds.pause(db, cycle.id, grid.clock())
            await record(grid, db, about(process, Kind.PAUSED, _ASKED, cycle=cycle))
    logger.info("%s is paused", process.named)
    return Success()


async def resume(grid: Grid, request: ResumeRequest) -> Success:
    """Takes a pause back. Whatever is bounded by time has as much of it left as when the pause began.

    Doing it again changes nothing.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(request.name, request.version)
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        if cycle.paused_at is not None:
            await rounds.resume(db, cycle, grid.clock())
            await record(grid, db, about(process, Kind.RESUMED, _ASKED, cycle=cycle))
    grid.closable.set()  # a deadline to watch
    logger.info("%s goes on", process.named)
    return Success()


async def stop(grid: Grid, request: StopRequest) -> StopReply:
    """Ends the training of a model. What follows is what follows the last cycle.

    The open cycle closes with the reports that it has, if they are enough for a checkpoint; else it is
    dropped. Doing it again changes nothing.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(request.name, request.version)
    dropped = None
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        if not cycle.ends_training:
            await rounds.order_end(db, cycle.id, True)
            await record(grid, db, about(process, Kind.STOPPED, _ASKED, cycle=cycle))
            dropped = await _end_early(grid, db, await participation.get_cycle(db, cycle.id))
    if dropped is not None:
        await diffs.forget(grid, cycle.id, process)
    grid.closable.set()
    logger.info("%s is stopped in cycle %d", process.named, cycle.number)
    return StopReply(cycle=cycle.number, dropped=dropped)


async def _end_early(grid: Grid, db: Db, cycle: Cycle) -> str | None:
    """Ends the open cycle of a model that is stopped; says why it is dropped, if it is."""
    if not cycle.is_open:  # it is closing
        return None
    process = (await grid.known.of_cycle(cycle, db)).process
    why = too_few(grid.known.strategy(process), cycle)
    if why is None:
        await rounds.set_closing(db, cycle.id)
        cause = f"the training was stopped, with {counted(cycle.reported, 'report')}"
        await record(grid, db, about(process, Kind.CLOSED, cause, cycle=cycle))
    else:
        await drop(grid, db, await catalogue.get_process(db, process.id), cycle, why)
    return why


async def extend(grid: Grid, request: ExtendRequest) -> ExtendReply:
    """Gives a model more cycles, also after its last one, and its open cycle more time.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: no number of cycles ends its training, or no time closes its cycle; or a schedule has no
            number for one of the new cycles that its key allows.
        ModelStateError: no cycle is open that could have more time; or the goal of the training is reached,
            so that it would end again at once.
    """
    process = await grid.known.find(request.name, request.version)
    goal = process.server_config.stop
    values = {} if goal is None else await grid.known.metric_by_checkpoint(process.id, goal.metric)
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        deadline = await _add_time(db, process, cycle, request.seconds)
        await heed(grid, db, process, cycle.id)  # of a secure round, a stage for which nobody is missing
        newest = await catalogue.get_process(db, process.id)
        if request.cycles is not None:
            if goal is not None and newest.server_config.stop == goal and is_reached(goal, values):
                raise ModelStateError(
                    f"the training of {process.named} has reached its goal ('stop' in its server_config), "
                    "and would end again after a cycle: change the goal first, or take it away with `fedplan "
                    "model set … --server stop=null`"
                )
            newest = await _add_cycles(grid, db, newest, cycle, request.cycles)
        told = about(
            process, Kind.PROLONGED, _ASKED, cycle=cycle, cycles=request.cycles, seconds=request.seconds
        )
        await record(grid, db, told)
    grid.closable.set()  # another deadline to watch
    return ExtendReply(
        num_cycles=newest.server_config.num_cycles,
        closes_at=None if deadline is None else moment(grid.clock.wall_of(deadline)),
    )


async def _add_time(db: Db, process: Process, cycle: Cycle, seconds: float | None) -> float | None:
    """Moves the deadline of the open cycle; returns when it is, if it comes."""
    deadline = cycle.deadline
    if seconds is not None:
        if not cycle.is_open:
            raise ModelStateError(f"no cycle of {process.named} is open that could have more time")
        if deadline is None:
            raise ConfigError(
                f"no time closes cycle {cycle.number} of {process.named}, for it has no cycle_length: it "
                "needs no more"
            )
        deadline = await rounds.add_time(db, cycle.id, seconds)
    return deadline if cycle.is_open and cycle.paused_at is None else None


async def _add_cycles(grid: Grid, db: Db, process: Process, cycle: Cycle, more: int) -> Process:
    """Lets a training go on for so many more cycles; returns the process with its new configuration."""
    config = process.server_config
    if cycle.ends_training or cycle.ordered_end:
        last = cycle.number
    elif config.num_cycles is None:
        raise ConfigError(f"{process.named} is trained without end: it needs no more cycles")
    else:
        last = config.num_cycles
    why_not = why_budget_is_spent(await spendings.count(db, process.id), config.privacy)
    if why_not is not None:
        raise ModelStateError(f"{process.named} can be trained no more: {why_not}")
    extended = parse_server_config(config.model_dump(exclude_unset=True) | {"num_cycles": last + more})
    check_schedules(process.client_config, extended.num_cycles)
    await catalogue.set_configs(db, process, process.client_config, extended)
    newest = await catalogue.get_process(db, process.id)
    if cycle.is_over:
        start = await catalogue.latest_checkpoint(db, process.id)
        why = f"its owner asked for {counted(more, 'cycle')} more"
        await open_cycle(grid, db, newest, cycle.number + 1, start.id, Task.TRAINING, why)
    else:  # when the evaluation ends, if it is one
        await rounds.order_end(db, cycle.id, False if cycle.task is Task.EVALUATION else None)
    return newest


async def set_configs(grid: Grid, request: SetRequest) -> SetReply:
    """Changes keys of a model's configurations. Cycles that have begun keep what they began with.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: a key cannot be changed, or what comes of it would not be hosted.
        ModelStateError: the keys say how long a training takes that has ended.
    """
    process = await grid.known.find(request.name, request.version)
    while True:
        client, server = await examined(grid, process, request)
        async with grid.store.writing() as db:
            cycle = await participation.latest_cycle(db, process.id, lock=True)
            if cycle.ends_training and "num_cycles" in request.server_config:
                raise ModelStateError(
                    f"the training of {process.named} has ended; `fedplan model extend` lets it go on"
                )
            newest = await catalogue.get_process(db, process.id)
            if newest.revision == process.revision:
                await catalogue.set_configs(db, process, client, server)
                why = f"its owner asked for it, from cycle {cycle.number + 1} on"
                told = about(
                    process,
                    Kind.CHANGED,
                    why,
                    cycle=cycle,
                    server_config=[*request.server_config],
                    client_config=[*request.client_config],
                )
                await record(grid, db, told)
                break
        process = newest  # somebody has changed it meanwhile
    names = ", ".join(sorted({*request.server_config, *request.client_config}))
    logger.info("%s of %s change from cycle %d on", names, process.named, cycle.number + 1)
    return SetReply(cycle=cycle.number + 1)
