"""What the owner sees of the hosted models."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from fedplan.errors import ConfigError, NotFoundError
from fedplan.federation import Stage, Strategy, round_of
from fedplan.federation.privacy import Spending, why_budget_is_spent
from fedplan.grid.clients import KINDS, Kind, obstacles
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, HostedPlan, Phase, Process
from fedplan.grid.store import spendings
from fedplan.grid.store.overview import Overview, overview
from fedplan.wire.config import PrivacyConfig
from fedplan.wire.messages import (
    PLAN_VARIANTS,
    CheckpointStatus,
    CycleStatus,
    ModelStatus,
    PlanStatus,
    PrivacyStatus,
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
        spent = await spendings.latest_of_all(db)
    if name is not None and not seen.processes:
        raise NotFoundError(f"this grid hosts no model '{name}'; `fedplan status` lists what it hosts")
    return StatusReply(models=[await _model(grid, process, seen, spent) for process in seen.processes])


async def status_of(grid: Grid, process: Process) -> ModelStatus:
    """One hosted model.

    Raises:
        NotFoundError: it was deleted.
    """
    for one in (await status(grid, process.name)).models:
        if one.version == process.version:
            return one
    raise NotFoundError(f"this grid hosts no model {process.named}")


async def _model(
    grid: Grid, process: Process, seen: Overview, spent: Mapping[int, tuple[Spending, int]]
) -> ModelStatus:
    config, cycle = process.server_config, seen.cycles[process.id]
    try:
        strategy, fault = grid.known.strategy(process), None
        round = round_of(await _strategy_of_cycle(grid, process, cycle))
        stage = round.reporting if round.is_secure else round.stage_of(cycle)
    except ConfigError as error:
        strategy, fault, stage = None, str(error), _UNKNOWN
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
        paused=None if cycle.is_over or cycle.paused_at is None else True,
        last_failure=None if failed is None else failed.failure,
        failed_cycle=None if failed is None else failed.number,
        fault=fault or (grid.faults.get(cycle.id) if cycle.phase is Phase.CLOSING else None),
        plans=[_plan(name, hosted) for name, hosted in plans.items()],
        withheld=[
            WithheldStatus(client=kind.name, why=list(why))
            for kind in KINDS
            if strategy is not None and (why := _withheld(process, plans, strategy, kind))
        ],
        privacy=_privacy(config.privacy, cycle, *spent.get(process.id, (None, 0))),
    )


def _withheld(
    process: Process, plans: Mapping[str, HostedPlan], strategy: Strategy, kind: Kind
) -> Sequence[str]:
    """Why a kind of client cannot take part."""
    return obstacles(process, plans, strategy, kind.variant, kind, tells=kind.tells, secures=kind.secures)


def _privacy(
    config: PrivacyConfig | None, cycle: Cycle, spent: Spending | None, cycles: int
) -> PrivacyStatus | None:
    """How much of the privacy is spent, and whether that is why the training has ended."""
    if config is None:
        return None
    return PrivacyStatus(
        epsilon=0.0 if spent is None else spent.epsilon,
        delta=config.delta,
        max_epsilon=config.max_epsilon,
        cycles=cycles,
        ended=why_budget_is_spent(cycles, config) if cycle.is_over else None,
    )


async def _strategy_of_cycle(grid: Grid, process: Process, cycle: Cycle) -> Strategy:
    """The strategy with the configurations with which a cycle began."""
    if cycle.revision == process.revision:
        return grid.known.strategy(process)
    try:
        return grid.known.strategy((await grid.known.of_cycle(cycle)).process)
    except NotFoundError:  # the model was deleted since
        return grid.known.strategy(process)


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
    if cycle.phase is Phase.OPEN and cycle.deadline is not None and cycle.paused_at is None:
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
