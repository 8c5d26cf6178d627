"""What the page of one model shows of its present cycle, its past, its checkpoints and its clients."""

import math
from collections.abc import Sequence
from typing import Any

from fedplan.federation import Layout
from fedplan.grid.clients import KINDS
from fedplan.grid.service.taking_part import MOST_SHOWN, Participant
from fedplan.grid.web.dashboard.views.models import cycle_of, reports_of, state_of
from fedplan.grid.web.dashboard.views.words import (
    in_words,
    large,
    number,
    rows,
    said,
    span,
    state,
    when,
)
from fedplan.text import in_bytes
from fedplan.wire.messages import (
    CheckpointRow,
    HistoryRow,
    ModelStatus,
    PlanStatus,
    WhyReply,
)
from fedplan.wire.why import waiting

CYCLES_SHOWN = 20
CHECKPOINTS_SHOWN = 20

_FIRST_METRICS = ("loss", "accuracy")
_TRAINING = "training_"


def present(model: ModelStatus, told: WhyReply, who: Sequence[Participant]) -> dict[str, Any]:
    """The cycle that is open, and why it waits."""
    cycle = model.cycle
    states = [one.state for one in who]
    return {
        "state": state(state_of(model)),
        "why": _capitalised(waiting(told, in_words)) if not told.fault else "It stands still.",
        "cycle": cycle_of(model),
        "phase": state(cycle.phase),
        "reports": reports_of(cycle),
        "workers": cycle.accepted,
        "training": told.silent,
        "gone": states.count("without a place"),
        "asking": told.asking,
        "opened": when(cycle.opened_at),
        "closes": when(cycle.closes_at),
        "left": None if cycle.closes_at is None else span((cycle.closes_at - told.at).total_seconds()),
        "lapses": when(told.lapses_at),
        "checkpoint": model.checkpoints[0].number if model.checkpoints else None,
        "fault": None if told.fault is None else said(told.fault),
        "failure": None if model.last_failure is None else said(model.last_failure),
        "failed_cycle": model.failed_cycle,
        "refused": [{"cause": said(one.cause), "times": one.times} for one in told.refused],
        "participants": [_participant(one) for one in who],
        "is_cut": len(who) >= MOST_SHOWN,
        "is_paused": bool(model.paused),
        "is_finished": model.phase == "finished",
        "has_end": model.num_cycles is not None or model.phase == "finished",
        "is_over": model.phase == "finished" and cycle.phase in ("done", "failed"),
        "is_open": cycle.phase == "open",
        "is_timed": cycle.phase == "open" and cycle.closes_at is not None,
    }


def _capitalised(sentence: str) -> str:
    return f"{sentence[:1].upper()}{sentence[1:]}."


def _participant(one: Participant) -> dict[str, Any]:
    word = "measuring" if one.only_measures and one.state == "training" else one.state
    return {
        "name": one.name,
        "state": state(word) if word != "training" else {"word": word, "tone": "waiting"},
        "joined": when(one.joined_at),
        "reported": when(one.reported_at),
        "cause": None if one.cause is None else said(one.cause),
    }


def past(ended: Sequence[HistoryRow]) -> dict[str, Any]:
    """The cycles that have ended, the newest first, with what was measured."""
    newest = ended[::-1]
    shown = newest[:CYCLES_SHOWN]
    names = sorted({name for row in shown for name in row.metrics}, key=_order)[:4]
    listed = [
        {
            "cycle": row.cycle,
            "task": row.task,
            "checkpoint": row.checkpoint,
            "state": state(row.phase),
            "workers": row.workers,
            "reports": row.reports,
            "samples": f"{row.samples:,.0f}",
            "took": span((row.closed_at - row.opened_at).total_seconds()),
            "metrics": [number(row.metrics[name].value) if name in row.metrics else "" for name in names],
            "failure": None if row.failure is None else said(row.failure),
        }
        for row in shown
    ]
    return {"names": [_readable(name) for name in names], **rows(listed, CYCLES_SHOWN), "all": len(ended)}


def points(ended: Sequence[HistoryRow]) -> list[dict[str, Any]]:
    """What was measured of each checkpoint, for the plots: one for each metric, loss and accuracy first."""
    found: dict[str, dict[str, dict[int, float]]] = {}
    for row in ended:
        for name, metric in row.metrics.items():
            base = name.removeprefix(_TRAINING)
            line = "while training" if name.startswith(_TRAINING) else "measured"
            found.setdefault(base, {}).setdefault(line, {})[row.checkpoint] = metric.value
    return [_plot(name, found[name]) for name in sorted(found, key=_order)]


def _plot(name: str, lines: dict[str, dict[int, float]]) -> dict[str, Any]:
    places = sorted({place for values in lines.values() for place in values})
    return {
        "name": _readable(name),
        "x": places,
        "lines": [
            {"name": line, "y": [values.get(place) for place in places]} for line, values in lines.items()
        ],
    }


def _order(name: str) -> tuple[int, int, str]:
    base = name.removeprefix(_TRAINING)
    first = _FIRST_METRICS.index(base) if base in _FIRST_METRICS else len(_FIRST_METRICS)
    return first, int(name != base), name


def _readable(name: str) -> str:
    return said(name).replace("_", " ")


def checkpoint_rows(found: Sequence[CheckpointRow]) -> dict[str, Any]:
    """The checkpoints, the newest first."""
    listed = [
        {
            "number": one.number,
            "made": when(one.created_at),
            "from": _origin(one),
            "names": list(one.aliases),
            "dropped": bool(one.dropped),
            "is_newest": one is found[0],
        }
        for one in found
    ]
    return {**rows(listed, CHECKPOINTS_SHOWN), "all": len(found)}


def _origin(one: CheckpointRow) -> str:
    if one.source is not None:
        return f"a copy of {one.source}"
    if one.cycle is not None:
        return f"cycle {one.cycle}"
    return "as hosted" if one.number == 1 else ""


def plan_rows(plans: Sequence[PlanStatus]) -> list[dict[str, Any]]:
    """The Plans, and as what each is served."""
    return [
        {
            "name": plan.name,
            "variants": [
                one.variant if one.error is None else f"{one.variant} (±{one.error:.3g})"
                for one in plan.variants
            ],
        }
        for plan in plans
    ]


def client_rows(model: ModelStatus) -> list[dict[str, Any]]:
    """Every client that is known: whether it can train the model and, if not, why."""
    withheld = {one.client: one.why for one in model.withheld}
    return [
        {"name": kind.name, "loads": kind.variant, "why": [said(why) for why in withheld.get(kind.name, [])]}
        for kind in KINDS
    ]


def size_of(layout: Layout) -> dict[str, Any]:
    """How large a model is: its tensors, the numbers in them, and the bytes that a worker downloads."""
    counts = [(math.prod(extents), dtype) for extents, dtype in layout]
    return {
        "tensors": len(counts),
        "numbers": large(sum(count for count, _ in counts)),
        "bytes": in_bytes(sum(count * _width(dtype) for count, dtype in counts)),
    }


def _width(dtype: str) -> int:
    """Bytes of a number: every dtype that a model may have ends in its bits."""
    return int("".join(filter(str.isdigit, dtype))) // 8
