"""How a model's owner gets a checkpoint, or a Plan."""

from fedplan.errors import AccessDeniedError, GridError, NotFoundError
from fedplan.federation.goals import best_of
from fedplan.grid.grid import Grid
from fedplan.grid.records import Checkpoint, Process
from fedplan.grid.service.access import find_place
from fedplan.grid.service.downloads import Source, whole_model
from fedplan.grid.service.status import moment
from fedplan.grid.store import catalogue, keeping
from fedplan.grid.store.connection import Db
from fedplan.wire.messages import PLAN_VARIANTS, RetrievePlanRequest, RetrieveRequest

_MOST_TOLD = 20


async def retrieve_model(grid: Grid, request: RetrieveRequest, *, refusal: GridError | None) -> Source:
    """A checkpoint of a model; without a version, of the one hosted last.

    Raises:
        NotFoundError: there is no such model or checkpoint.
        AuthenticationError: who asks may not have it.
        AccessDeniedError: so too, and its token is for other things, or its request key opens nothing.
    """
    process = await grid.known.find(request.name, request.version)
    worker = request.worker_id is not None and request.request_key is not None
    if not worker:
        _check_may_read(process, "checkpoints", refusal)
    number: int | None = None
    if request.checkpoint == "best":
        number = await _best(grid, process)
    elif request.checkpoint != "latest":
        number = _number(request.checkpoint)
    async with grid.store.reading() as db:
        found = await catalogue.find_checkpoint(db, process.id, number)
        if refusal is not None and not process.server_config.public:
            await _check_place(db, request, process, found)
    if found is None:
        raise NotFoundError(
            f"the model '{request.name}' has no checkpoint '{request.checkpoint}'; there are numbers, "
            "'latest' and 'best'"
        )
    if found.deleted_at is not None:
        raise NotFoundError(await _told_deleted(grid, process, found, found.deleted_at))
    if found.dropped:
        raise NotFoundError(
            f"checkpoint {found.number} of the model '{request.name}' was dropped when its owner went back "
            "to an older one; `fedplan checkpoint promote` makes it the newest again"
        )
    return whole_model(process, found)


async def retrieve_plan(grid: Grid, request: RetrievePlanRequest, *, refusal: GridError | None) -> Source:
    """A Plan of a model, as the list of its operations; without a version, of the one hosted last.

    Raises:
        NotFoundError: there is no such model or Plan.
        AuthenticationError: who asks may not have it.
        AccessDeniedError: so too, and its token is for other things.
    """
    process = await grid.known.find(request.name, request.version)
    _check_may_read(process, "Plans", refusal)
    plans = (await grid.known.hosted(process.id)).plans
    if request.plan not in plans:
        raise NotFoundError(
            f"the model '{process.name}' has no Plan '{request.plan}'; its Plans are {', '.join(plans)}"
        )
    return Source(plans[request.plan].variants[PLAN_VARIANTS[0]].content)


def _check_may_read(process: Process, what: str, refusal: GridError | None) -> None:
    """Raises the refusal, if there is one, unless the model is for everybody."""
    if refusal is not None and not process.server_config.public:
        raise type(refusal)(
            f"the {what} of '{process.name}' are for the grid's owner and who may read: {refusal}. A "
            'model hosted with "public": true in its server_config is for everybody'
        )


async def _told_deleted(grid: Grid, process: Process, gone: Checkpoint, deleted_at: float) -> str:
    async with grid.store.reading() as db:
        there = [str(one.number) for one in await keeping.checkpoints_there(db, process.id)]
    if len(there) > _MOST_TOLD:
        there = [*there[:3], "…", *there[3 - _MOST_TOLD :]]
    return (
        f"checkpoint {gone.number} of the model '{process.name}' was deleted on "
        f"{moment(deleted_at):%Y-%m-%d}, for its server_config does not keep it (keep_checkpoints); "
        f"there are {', '.join(there)}"
    )


async def _check_place(db: Db, request: RetrieveRequest, process: Process, found: Checkpoint | None) -> None:
    """Lets a worker have the checkpoint that its cycle starts from, as long as the cycle is open."""
    _, cycle = await find_place(db, request.worker_id or "", request.request_key or "")
    starts_there = found is not None and cycle.checkpoint_id == found.id
    if cycle.process_id != process.id or not cycle.is_open or not starts_there:
        raise AccessDeniedError(
            "a worker may have the checkpoint that its open cycle starts from, and no other"
        )


async def _best(grid: Grid, process: Process) -> int:
    """The number of the best checkpoint, by what the server_config says.

    Raises:
        NotFoundError: it says nothing, or no checkpoint was measured yet.
    """
    goal = process.server_config.best
    if goal is None:
        raise NotFoundError(
            f"the server_config of the model '{process.name}' does not say which checkpoint is the best: "
            'host it with \'best\', such as {"metric": "accuracy", "mode": "max"}'
        )
    number = best_of(goal, await grid.known.metric_by_checkpoint(process.id, goal.metric))
    if number is None:
        raise NotFoundError(f"no checkpoint of the model '{process.name}' has a measured {goal.metric} yet")
    return number


def _number(checkpoint: str) -> int:
    """A checkpoint's number; 0, which none has, for what is not a number that one could have."""
    plausible = checkpoint.isascii() and checkpoint.isdigit() and len(checkpoint) < 10
    return int(checkpoint) if plausible else 0
