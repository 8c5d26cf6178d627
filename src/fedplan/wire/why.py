"""What a grid's answer to why says, in words. Grid and client show the same sentences."""

from collections.abc import Callable, Iterator
from datetime import datetime

from fedplan.text import counted
from fedplan.wire.messages import CycleStatus, WhyReply, WorkerStatus

_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))

Time = Callable[[datetime, datetime], str]
"""How a moment is written, seen from another, which is now."""

Shown = Callable[[str], str]
"""How a peer's words are repeated."""


def sentences(told: WhyReply, time: Time, shown: Shown) -> list[str]:
    """What a model waits for, what failed and was refused, and what became of the worker asked for."""
    said = [waiting(told, time)]
    if told.fault is not None:
        said.append(f"it stands still: {shown(told.fault)}")
    if told.last_failure is not None:
        said.append(f"a cycle failed: {shown(told.last_failure)}")
    if told.refused:
        causes = ", ".join(f"{one.times} × {shown(one.cause)}" for one in told.refused)
        said.append(f"refused in this cycle: {causes}")
    if told.worker is not None:
        said += _worker(told.worker, told.at, time, shown)
    return said


def waiting(told: WhyReply, time: Time) -> str:
    """The sentence about the model's present cycle."""
    return "; ".join(_cycle(told, time))


def _cycle(told: WhyReply, time: Time) -> Iterator[str]:
    """Its parts."""
    cycle = told.cycle
    of = f" of {told.num_cycles}" if told.num_cycles is not None and cycle.task == "training" else ""
    name = (
        f"cycle {cycle.number}{of}" if cycle.task == "training" else f"the evaluation, cycle {cycle.number},"
    )
    if cycle.phase == "closing":
        yield f"{name} takes no more reports: its {counted(cycle.reported, 'report')} are being averaged"
        return
    if cycle.phase != "open":
        yield f"the training is finished: {name} is {cycle.phase}, and nothing is waited for"
        return
    yield f"{name} {_waits(told)}"
    yield _joined(told, time)
    if told.paused:
        yield "its owner has paused it: nobody joins, and no time passes for it"
    if cycle.closes_at is not None:
        yield f"{_at_its_time(cycle)} at {time(cycle.closes_at, told.at)}"


def _waits(told: WhyReply) -> str:
    cycle = told.cycle
    if cycle.stage is not None:
        return f"is a secure round at its stage '{cycle.stage}', and has {counted(cycle.reported, 'report')}"
    if told.min_workers is not None:
        asking = "" if told.asking is None else f", and {told.asking} {'does' if told.asking == 1 else 'do'}"
        return f"waits until {told.min_workers} workers ask for a place{asking}"
    if told.lacking is not None:
        return f"waits for {told.lacking} of {cycle.reported + told.lacking} reports"
    if cycle.reported < cycle.needed:
        return f"waits for {cycle.needed - cycle.reported} of {cycle.needed} reports"
    if cycle.closes_at is not None:
        return f"has {counted(cycle.reported, 'report')}, which is enough, and waits for its time to be over"
    return f"has {counted(cycle.reported, 'report')}, which is enough, and waits for workers that still train"


def _joined(told: WhyReply, time: Time) -> str:
    joined = f"{counted(told.cycle.accepted, 'worker')} joined"
    if told.silent_since is None:
        return f"{joined}, and none of them is silent"
    silent = (told.at - told.silent_since).total_seconds()
    one = told.silent == 1
    lapses = ""
    if told.lapses_at is not None:
        lapses = f", {'its place lapses' if one else 'places lapse'} at {time(told.lapses_at, told.at)}"
    return f"{joined}, {told.silent} silent{'' if one else ', the first'} for {span(silent)}{lapses}"


def _at_its_time(cycle: CycleStatus) -> str:
    if cycle.stage is not None:
        return "the stage ends, and the round without a sum if too few have come,"
    if cycle.reported >= cycle.needed or cycle.task == "evaluation":
        return "it closes"
    are = "is" if cycle.needed == 1 else "are"
    return f"its time is over, and starts again unless {counted(cycle.needed, 'report')} {are} there,"


def _worker(worker: WorkerStatus, now: datetime, time: Time, shown: Shown) -> Iterator[str]:
    name = f"worker {shown(worker.name)}"
    if worker.state == "unknown":
        yield (
            f"{name} has had no place in the latest cycles of this model, and no refusal of it is known: "
            "does it ask for this model and version?"
        )
        return
    if worker.joined_at is not None:
        yield f"{name} {_place(worker, now, time, shown)}"
    if worker.refused_at is not None and worker.refused_why is not None:
        yield f"{name} was refused at {time(worker.refused_at, now)}: {shown(worker.refused_why)}"


def _place(worker: WorkerStatus, now: datetime, time: Time, shown: Shown) -> str:
    joined = (
        "" if worker.joined_at is None else f"joined cycle {worker.cycle} at {time(worker.joined_at, now)}"
    )
    if worker.state == "reported" and worker.reported_at is not None:
        return f"{joined} and reported at {time(worker.reported_at, now)}"
    if worker.state == "training":
        lapses = "" if worker.lapses_at is None else f"; its place lapses at {time(worker.lapses_at, now)}"
        return f"{joined} and has not reported yet{lapses}"
    return f"{joined} and has no place there any more: {shown(worker.cause or 'the grid does not say why')}"


def span(seconds: float) -> str:
    """How long something has been: ``40 s``, ``11 min``."""
    for length, unit in _UNITS:
        if seconds >= length:
            return f"{seconds // length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
