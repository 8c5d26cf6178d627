"""How a model's owner gets a checkpoint."""

from fedplan.errors import NotFoundError
from fedplan.grid.grid import Grid
from fedplan.grid.service.downloads import Source, whole_model
from fedplan.grid.store import catalogue
from fedplan.wire.messages import RetrieveRequest


async def retrieve_model(grid: Grid, request: RetrieveRequest) -> Source:
    """A checkpoint of a model; without a version, of the one hosted last.

    Raises:
        NotFoundError: there is no such model or checkpoint.
    """
    number = None if request.checkpoint == "latest" else _number(request.checkpoint)
    process = await grid.known.find(request.name, request.version)
    async with grid.store.reading() as db:
        found = await catalogue.find_checkpoint(db, process.id, number)
    if found is None:
        raise NotFoundError(
            f"the model '{request.name}' has no checkpoint '{request.checkpoint}'; numbers and 'latest' exist"
        )
    return whole_model(process, found)


def _number(checkpoint: str) -> int:
    """A checkpoint's number; 0, which none has, for what is not a number that one could have."""
    plausible = checkpoint.isascii() and checkpoint.isdigit() and len(checkpoint) < 10
    return int(checkpoint) if plausible else 0
