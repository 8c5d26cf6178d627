"""How a model's owner has the newest checkpoint measured, after the training."""

from fedplan.errors import ConfigError, ModelStateError
from fedplan.federation import Task
from fedplan.grid.grid import Grid
from fedplan.grid.service.opening import open_cycle
from fedplan.grid.store import catalogue, participation
from fedplan.wire.messages import EVALUATION_PLAN, EvaluateReply, EvaluateRequest


async def evaluate(grid: Grid, request: EvaluateRequest) -> EvaluateReply:
    """Opens a cycle of evaluation, unless one is open.

    Raises:
        NotFoundError: there is no such model.
        ConfigError: it was hosted without an evaluation Plan.
        ModelStateError: it is still trained.
    """
    process = await grid.known.find(request.name, request.version)
    which = process.named
    if not process.evaluates:
        raise ConfigError(f"{which} was hosted without a Plan '{EVALUATION_PLAN}', so nothing measures it")
    if process.server_config.secure_aggregation is not None:
        raise ConfigError(
            f"{which} adds reports up by secure aggregation, and in an evaluation by itself the grid would "
            "see what each worker measured: its workers measure it in each cycle of the training"
        )
    async with grid.store.writing() as db:
        cycle = await participation.latest_cycle(db, process.id, lock=True)
        newest = await catalogue.find_checkpoint(db, process.id, None)
        if newest is None:
            raise RuntimeError(f"{which} has no checkpoint")
        if cycle.task is Task.TRAINING and not cycle.is_over:
            raise ModelStateError(
                f"{which} is still trained, and its workers measure the checkpoint from which their cycle "
                f"starts: the history tells of checkpoint {newest.number} when cycle {cycle.number} has ended"
            )
        number = cycle.number
        if cycle.is_over:
            number += 1
            model = await catalogue.get_process(db, process.id)
            why = "its owner asked for an evaluation"
            await open_cycle(grid, db, model, number, newest.id, Task.EVALUATION, why)
    grid.closable.set()  # a new deadline to watch
    return EvaluateReply(cycle=number, checkpoint=newest.number)
