"""Why: what a model waits for, and what became of a worker."""

import dataclasses
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Literal

from fedplan.errors import ConfigError
from fedplan.federation import Task, round_of
from fedplan.federation.admission import keeps_waiting_list
from fedplan.grid.grid import Grid
from fedplan.grid.observing.events import Event, Happened, Kind
from fedplan.grid.records import Cycle, Phase, Process
from fedplan.grid.service.status import moment, status_of
from fedplan.grid.store import events, participation, places
from fedplan.grid.store.places import Found
from fedplan.wire.messages import ModelStatus, RefusedStatus, WhyReply, WhyRequest, WorkerStatus, worker_name

LOOKED_AT = 20_000
"""Of the newest events, how many are looked through for those of a model."""

_MOST_CAUSES = 10

TELLING = (Kind.REFUSED, Kind.DECLINED, Kind.GONE, Kind.EXTENDED)
"""Why workers have no place."""


async def why(grid: Grid, request: WhyRequest, model: ModelStatus | None = None) -> WhyReply:
    """What a model waits for and, if one is asked for, what became of a worker.

    Args:
        grid: the grid.
        request: which model, and which worker.
        model: its status, where that is known already.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(request.name, request.version)
    if model is None:
        model = await status_of(grid, process)
    name = None if request.worker is None else worker_name(request.worker)
    async with grid.store.reading(long=True) as db:
        cycle = await participation.latest_cycle(db, process.id)
        process = (await grid.known.of_cycle(cycle, db)).process
        config = process.server_config
        silent = await places.silent(db, cycle.id)
        asking = None
        if keeps_waiting_list(config) and cycle.is_open:
            asking = await participation.count_waiting(db, process.id, "", grid.clock())
        recent = await events.recent_of(db, process.name, process.version, TELLING, LOOKED_AT)
        found = None if name is None else await places.find_by_name(db, process.id, name, cycle.number)
    gathers = cycle.is_open and cycle.occupied == 0 and cycle.task is Task.TRAINING
    first = silent.first if cycle.is_open else None
    return WhyReply(
        at=moment(grid.clock.wall()),
        name=process.name,
        version=process.version,
        phase=model.phase,
        num_cycles=model.num_cycles,
        cycle=model.cycle,
        lacking=_lacking(grid, process, cycle),
        min_workers=config.min_workers if gathers else None,
        asking=asking,
        silent=silent.count if cycle.is_open else 0,
        silent_since=None if first is None else moment(grid.clock.wall_of(first)),
        lapses_at=None if first is None else _lapses_at(grid, process, cycle, first),
        paused=model.paused,
        fault=model.fault,
        last_failure=model.last_failure,
        refused=_refused(recent, cycle),
        worker=None if name is None else _worker(grid, process, cycle, name, found, recent),
    )


def _lacking(grid: Grid, process: Process, cycle: Cycle) -> int | None:
    """How many reports are still to come until their number closes the cycle."""
    if not cycle.is_open or process.server_config.secure_aggregation is not None:
        return None
    try:
        return round_of(grid.known.strategy(process)).stage_of(cycle).lacking(cycle)
    except ConfigError:  # this grid does not know its strategy, as the status says
        return None


def _lapses_at(grid: Grid, process: Process, cycle: Cycle, taken: float) -> datetime | None:
    """When a place lapses that was taken at some time.

    None while no time passes for the model, and in a secure round, whose stages have deadlines.
    """
    if cycle.paused_at is not None or process.server_config.secure_aggregation is not None:
        return None
    return moment(grid.clock.wall_of(taken + process.server_config.place_timeout))


def _refused(recent: Sequence[Happened], cycle: Cycle) -> list[RefusedStatus]:
    """What was refused in a cycle, the most frequent cause first."""
    causes = Counter[str]()
    for event in _of_cycle(recent, cycle.number, Kind.REFUSED):
        causes[event.cause] += _times(event)
    return [RefusedStatus(cause=cause, times=times) for cause, times in causes.most_common(_MOST_CAUSES)]


def _of_cycle(recent: Sequence[Happened], cycle: int, *kinds: Kind) -> Iterator[Event]:
    return (one.event for one in recent if one.event.cycle == cycle and one.event.kind in kinds)


def _times(event: Event) -> int:
    return int(event.details.get("times", 1))


def _names(event: Event, worker: str) -> bool:
    """Whether an event names a worker."""
    is_actor = event.actor is not None and event.actor.id == worker
    return is_actor or worker in event.details.get("workers", ())


@dataclasses.dataclass(frozen=True, slots=True)
class _Refusal:
    at: datetime
    event: Event


def _worker(
    grid: Grid,
    process: Process,
    cycle: Cycle,
    name: str,
    found: Found | None,
    recent: Sequence[Happened],
) -> WorkerStatus:
    """What became of a worker; the cycle is the model's latest."""
    refusal = _last_refusal(grid, process, name, recent)
    if found is None:
        return WorkerStatus(
            name=name,
            state="unknown" if refusal is None else "refused",
            refused_at=None if refusal is None else refusal.at,
            refused_why=None if refusal is None else refusal.event.cause,
        )
    joined = moment(grid.clock.wall_of(found.accepted_at))
    if refusal is not None and refusal.at < joined:
        refusal = None
    state, cause = standing(name, found, recent)
    trains = state == "training" and not found.aside
    return WorkerStatus(
        name=name,
        state=state,
        cycle=found.cycle,
        joined_at=joined,
        reported_at=None if found.reported_at is None else moment(found.reported_at),
        lapses_at=_lapses_at(grid, process, cycle, found.accepted_at) if trains else None,
        cause=cause,
        refused_at=None if refusal is None else refusal.at,
        refused_why=None if refusal is None else refusal.event.cause,
    )


def _last_refusal(grid: Grid, process: Process, name: str, recent: Sequence[Happened]) -> _Refusal | None:
    """A worker's latest refusal: one that this replica remembers, else one that an event names."""
    told = grid.bundles.last_refusal(name)
    if told is not None and (told.event.model, told.event.version) == (process.name, process.version):
        return _Refusal(moment(grid.clock.wall() - (grid.clock.monotonic() - told.at)), told.event)
    for one in recent:
        if one.event.kind is Kind.REFUSED and _names(one.event, name):
            return _Refusal(moment(one.at), one.event)
    return None


def standing(
    name: str, found: Found, recent: Sequence[Happened]
) -> tuple[Literal["training", "reported", "without a place"], str | None]:
    """How a worker stands in its cycle and, if it has no place any more, why."""
    if found.damaged:
        return "without a place", "what the grid had stored of its report is damaged or missing"
    if found.reported_at is not None:
        return "reported", None
    if found.released:
        return "without a place", _why_released(name, found, recent)
    if found.phase is Phase.OPEN:
        return "training", None
    return "without a place", "its cycle closed before it had reported"


def _why_released(name: str, found: Found, recent: Sequence[Happened]) -> str:
    for event in _of_cycle(recent, found.cycle, Kind.DECLINED):
        if _names(event, name):
            return f"it gave its place back: {event.cause}"
    left = list(_of_cycle(recent, found.cycle, Kind.GONE, Kind.EXTENDED))
    for event in left:
        if _names(event, name):
            return f"it was taken for gone: {event.cause}"
    for event in left:
        if _times(event) > len(event.details.get("workers", ())):  # it names some only
            return f"it was taken for gone, with {_times(event) - 1} others: {event.cause}"
    return (
        "another worker of its subject got its place or has reported, or the event that tells why is "
        "no longer kept"
    )
