"""How a cycle begins: with the newest configurations of its model."""

from fedplan.federation import Task, round_of
from fedplan.grid.grid import Grid
from fedplan.grid.store import catalogue, rounds
from fedplan.grid.store.connection import Db


async def open_cycle(
    grid: Grid,
    db: Db,
    process_id: int,
    number: int,
    checkpoint_id: int,
    task: Task,
    *,
    paused: bool = False,
) -> None:
    """Opens a cycle of a model that is hosted, whose latest cycle is locked and has ended."""
    process = await catalogue.get_process(db, process_id)
    now = grid.clock()
    await rounds.open_cycle(
        db,
        process_id,
        number,
        checkpoint_id,
        grid.clock.wall(),
        round_of(grid.known.strategy(process)).first_stage(task).deadline(now),
        task,
        revision=process.revision,
        paused_at=now if paused else None,
    )
