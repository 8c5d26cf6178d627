"""How a model is deleted: its rows in one transaction, which notes the blobs; then the blobs.

What a killed process has not deleted then is deleted by the next one that starts.
"""

import logging

from fedplan.errors import ModelStateError
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Kind
from fedplan.grid.service.diffs import forget_left
from fedplan.grid.service.events import about, record
from fedplan.grid.store import participation, removal
from fedplan.grid.web.replies import log_failure
from fedplan.text import counted
from fedplan.wire.messages import DeleteRequest, Success

logger = logging.getLogger(__name__)


async def delete(grid: Grid, request: DeleteRequest) -> Success:
    """Deletes a model, with its checkpoints, Plans, cycles and reports. Its name and version are free then.

    Raises:
        NotFoundError: there is no such model.
        ModelStateError: a cycle is under way, and that was not said to be no matter.
    """
    process = await grid.known.find(request.name, request.version)
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        if not cycle.is_over and not request.force:
            raise ModelStateError(
                f"cycle {cycle.number} of {process.named} is {cycle.phase.value}, and "
                f"{counted(cycle.reported, 'report')} would be lost: stop the model first, or "
                "delete it with --force ('force': true)"
            )
        await removal.delete_process(db, process.id)
        await record(grid, db, about(process, Kind.DELETED, "its owner asked for it", cycle=cycle))
    logger.info("%s is deleted", process.named)
    try:
        await forget_left(grid)
        await delete_unused(grid)
    except Exception as error:  # noqa: BLE001  # the model is gone all the same
        log_failure(logger, "blobs of a deleted model are left; the next start tries again", error)
    return Success()


async def delete_unused(grid: Grid) -> None:
    """Deletes the blobs of deleted models."""
    async with grid.store.reading() as db:
        keys = await removal.unused(db)
    await grid.blobs.delete(*keys)
    async with grid.store.writing() as db:
        await removal.forget_unused(db, keys)
