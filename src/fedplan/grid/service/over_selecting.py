"""How a model's cycles learn of the workers that drop out, and take more of them."""

from fedplan.federation import Task
from fedplan.federation.over_selection import LATEST_CYCLES, drop_out, places_to_give
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, Process
from fedplan.grid.store import places, rounds
from fedplan.grid.store.connection import Db


async def note_drop_out(grid: Grid, db: Db, process: Process, cycle: Cycle) -> None:
    """Notes what a cycle that ends tells of its workers, if the model over-selects.

    Args:
        grid: the grid.
        db: the transaction that ends the cycle.
        process: the model.
        cycle: the cycle.
    """
    if process.server_config.over_selection is None or cycle.task is not Task.TRAINING:
        return
    now = grid.clock()
    held = await places.held(db, cycle.id, wall_to_grid=now - grid.clock.wall())
    ended = max((place.reported for place in held if place.reported is not None), default=now)
    if cycle.deadline is not None and cycle.deadline <= now:  # it took reports until then
        ended = max(ended, cycle.deadline)
    seen = drop_out(held, ended)
    await rounds.note_drop_out(db, cycle.id, seen)


async def places_of_next(db: Db, process: Process, task: Task) -> int | None:
    """How many places the next cycle of a model has; None where its server_config alone says it."""
    if process.server_config.over_selection is None or task is not Task.TRAINING:
        return None
    return places_to_give(process.server_config, await rounds.drop_out(db, process.id, LATEST_CYCLES))
