"""The list of hosted models."""

from collections.abc import Sequence
from typing import Any

from fedplan.grid.web.dashboard.views.words import said, state, when
from fedplan.wire.messages import CycleStatus, ModelStatus


def model_rows(models: Sequence[ModelStatus]) -> list[dict[str, Any]]:
    """A row for each model."""
    return [_row(model) for model in models]


def _row(model: ModelStatus) -> dict[str, Any]:
    return {
        "name": model.name,
        "version": model.version,
        "state": state(state_of(model)),
        "cycle": cycle_of(model),
        "workers": model.cycle.accepted,
        "reports": reports_of(model.cycle),
        "closes": when(model.cycle.closes_at),
        "checkpoint": model.checkpoints[0].number if model.checkpoints else None,
        "fault": None if model.fault is None else said(model.fault),
    }


def state_of(model: ModelStatus) -> str:
    """How a model is doing, in a word or two."""
    if model.fault is not None:
        return "stands still"
    if model.paused:
        return "paused"
    if model.phase == "finished":
        return "finished"
    return "training"


def cycle_of(model: ModelStatus) -> str:
    """Which cycle a model is in: ``7 of 10``."""
    cycle = model.cycle
    if cycle.task == "evaluation":
        return f"{cycle.number}, an evaluation"
    return f"{cycle.number} of {model.num_cycles}" if model.num_cycles is not None else str(cycle.number)


def reports_of(cycle: CycleStatus) -> dict[str, Any]:
    """How many reports came, and how many are enough; a bar shows the part."""
    wanted = cycle.limit or max(cycle.needed, 1)
    return {
        "count": cycle.reported,
        "wanted": wanted,
        "needed": cycle.needed,
        "bar": min(cycle.reported, wanted),
        "damaged": cycle.damaged,
    }
