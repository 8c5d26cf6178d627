"""How a cycle begins: with the newest configurations of its model."""

from fedplan.federation import Task, round_of
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind
from fedplan.grid.records import Process
from fedplan.grid.service.events import about, record
from fedplan.grid.service.over_selecting import places_of_next
from fedplan.grid.store import rounds
from fedplan.grid.store.connection import Db


async def open_cycle(
    grid: Grid,
    db: Db,
    newest: Process,
    number: int,
    checkpoint_id: int,
    task: Task,
    why: str,
    *,
    paused: bool = False,
) -> None:
    """Opens a cycle of a model, whose latest cycle has ended.

    Args:
        grid: the grid.
        db: a transaction in which the latest cycle is locked.
        newest: the model, with its newest configurations.
        number: of the new cycle.
        checkpoint_id: from which it starts.
        task: what it is for.
        why: it opens.
        paused: whether the model is.
    """
    now = grid.clock()
    first = round_of(grid.known.strategy(newest)).first_stage(task)
    places = await places_of_next(db, newest, task)
    await rounds.open_cycle(
        db,
        newest.id,
        number,
        checkpoint_id,
        grid.clock.wall(),
        first.deadline(now),
        task,
        stage=first.name,
        revision=newest.revision,
        places=places,
        paused_at=now if paused else None,
    )
    await record(grid, db, about(newest, Kind.OPENED, why, cycle=number, task=task.value, places=places))
