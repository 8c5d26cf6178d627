"""What the owner sees of the hosted models."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fedplan.errors import ConfigError, NotFoundError
from fedplan.federation import Stage, Strategy, round_of
from fedplan.grid.clients import KINDS, Kind, obstacles
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, HostedPlan, Phase, Process
from fedplan.grid.store.overview import Overview, overview
from fedplan.wire.messages import (
    PLAN_VARIANTS,
    CheckpointStatus,
    CycleStatus,
    ModelStatus,
    PlanStatus,
    StatusReply,
    VariantStatus,
    WithheldStatus,
)

_UNKNOWN = Stage("reports", needed=1)
"""Of a model whose strategy this grid does not know."""


async def status(grid: Grid, name: str | None) -> StatusReply:
    """The hosted models, or the versions of one.

    Raises:
        NotFoundError: there is no model of that name.
    """
    async with grid.store.reading(long=True) as db:
        seen = await overview(db, name)
    if name is not None and not seen.processes:
        raise NotFoundError(f"this grid hosts no model '{name}'")
    return StatusReply(models=[_model(grid, process, seen) for process in seen.processes])


def _model(grid: Grid, process: Process, seen: Overview) -> ModelStatus:
    config = process.server_config
    try:
        strategy, fault = grid.known.strategy(process), None
        round = round_of(strategy)
        stage = round.reporting if round.is_secure else round.stage_of(seen.cycles[process.id])
    except ConfigError as error:
        strategy, fault, stage = None, str(error), _UNKNOWN
    cycle = seen.cycles[process.id]
    plans = seen.plans.get(process.id, {})
    failed = seen.failed.get(process.id)
    return ModelStatus(
        name=process.name,
        version=process.version,
        phase="finished" if cycle.ends_training else "training",
        num_cycles=config.num_cycles,
        stop=None if config.stop is None else f"{config.stop.mode} {config.stop.metric}",
        cycle=_cycle(grid, stage, cycle),
        checkpoints=[
            CheckpointStatus(number=checkpoint.number, created_at=moment(checkpoint.created_at))
            for checkpoint in seen.checkpoints[process.id]
        ],
        last_failure=None if failed is None else failed.failure,
        failed_cycle=None if failed is None else failed.number,
        fault=fault or (grid.faults.get(cycle.id) if cycle.phase is Phase.CLOSING else None),
        plans=[_plan(name, hosted) for name, hosted in plans.items()],
        withheld=[
            WithheldStatus(client=kind.name, why=list(why))
            for kind in KINDS
            if strategy is not None and (why := _withheld(process, plans, strategy, kind))
        ],
    )


def _withheld(
    process: Process, plans: Mapping[str, HostedPlan], strategy: Strategy, kind: Kind
) -> Sequence[str]:
    """Why a kind of client cannot take part."""
    return obstacles(process, plans, strategy, kind.variant, kind, tells=kind.tells, secures=kind.secures)


def _plan(name: str, hosted: HostedPlan) -> PlanStatus:
    found = hosted.variants
    return PlanStatus(
        name=name,
        variants=[
            VariantStatus(variant=kind, error=found[kind].error) for kind in PLAN_VARIANTS if kind in found
        ],
    )


def _cycle(grid: Grid, stage: Stage, cycle: Cycle) -> CycleStatus:
    closes_at = None
    if cycle.phase is Phase.OPEN and cycle.deadline is not None:
        closes_at = moment(grid.clock.wall_of(cycle.deadline))
    return CycleStatus(
        number=cycle.number,
        task=cycle.task.value,
        phase=cycle.phase.value,
        accepted=cycle.occupied,
        reported=cycle.reported,
        damaged=cycle.damaged or None,
        needed=stage.needed,
        limit=stage.limit,
        stage=_secure_stage(stage, cycle),
        opened_at=moment(cycle.opened_at),
        closes_at=closes_at,
        closed_at=None if cycle.closed_at is None else moment(cycle.closed_at),
        failure=cycle.failure,
    )


def _secure_stage(stage: Stage, cycle: Cycle) -> Any:
    """The name of an open secure cycle's stage; None of another cycle."""
    return cycle.stage if stage.is_secure and cycle.is_open else None


def moment(seconds: float) -> datetime:
    """A time of the store as answers hold it."""
    return datetime.fromtimestamp(seconds, UTC)
