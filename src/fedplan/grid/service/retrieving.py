"""How a model's owner gets a checkpoint."""

from fedplan.errors import NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.service.downloads import Download, fetch
from fedplan.grid.service.joining import find_process
from fedplan.grid.store import catalogue


async def retrieve_model(grid: Grid, name: str, version: str | None, checkpoint: str) -> Download:
    """A checkpoint of a model.

    Args:
        grid: the grid.
        name: the model's name.
        version: its version; the one hosted last when None.
        checkpoint: its number, 1 being the model as it was hosted, or ``latest``.

    Raises:
        NotFoundError: there is no such model or checkpoint.
    """
    number = None if checkpoint == "latest" else _number(checkpoint)
    async with grid.store.reading() as db:
        process = await find_process(db, name, version)
        found = await catalogue.find_checkpoint(db, process.id, number)
    if found is None:
        raise NotFoundError(
            f"the model '{name}' has no checkpoint '{checkpoint}'; numbers and 'latest' exist"
        )
    return await fetch(grid, found.blob)


def _number(checkpoint: str) -> int:
    """A checkpoint's number; 0, which none has, for what is not a number that one could have."""
    plausible = checkpoint.isascii() and checkpoint.isdigit() and len(checkpoint) < 10
    return int(checkpoint) if plausible else 0
