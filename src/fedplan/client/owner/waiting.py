"""Waiting until a hosted model has come as far as its owner wants."""

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Callable
from typing import Self

from fedplan.client.transport.answers import shown
from fedplan.client.transport.exchange import AWAY_SECONDS, passes
from fedplan.errors import (
    ConfigError,
    CycleFailedError,
    GridConnectionError,
    GridResponseError,
    WaitTimeoutError,
)
from fedplan.wire.messages import EVALUATION_PLAN, CycleStatus, ModelStatus

_log = logging.getLogger("fedplan.client")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 2.0
"""Seconds between two looks: the end of a cycle is seen at once, and one that takes days is not asked for all
the time."""

Look = Callable[[], Awaitable[ModelStatus]]
"""Asks the grid how the model is doing."""


@dataclasses.dataclass(frozen=True, slots=True)
class Goal:
    """What is waited for.

    Attributes:
        checkpoint: the number of a checkpoint; None for the end of the training.
        evaluated: then, whether also for the end of the evaluation that follows it.
    """

    checkpoint: int | None
    evaluated: bool = False

    @classmethod
    def of(cls, model: ModelStatus, checkpoint: int | None, *, finished: bool, evaluated: bool) -> Self:
        """The goal: by default the checkpoint after the newest one, or the end where there will be none.

        Raises:
            ConfigError: it can never be reached.
        """
        if evaluated and EVALUATION_PLAN not in {plan.name for plan in model.plans}:
            raise ConfigError(
                f"{_name(model)} was hosted without a Plan '{EVALUATION_PLAN}', so nothing measures its last "
                "checkpoint: wait until it is finished"
            )
        if (finished or evaluated) and model.num_cycles is None and model.stop is None:
            raise ConfigError(
                f"{_name(model)} is trained without end, for its server_config has no num_cycles and no "
                "stop: wait for a checkpoint"
            )
        last = None if model.num_cycles is None else _last_possible(model, model.num_cycles)
        if checkpoint is not None and last is not None and checkpoint > last:
            raise ConfigError(
                f"{_name(model)} has {model.num_cycles} cycles, so its last checkpoint is {last} at most; "
                f"checkpoint {checkpoint} will never be there"
            )
        if checkpoint is None and not finished and not evaluated and model.phase != "finished":
            checkpoint = newest(model) + 1
        return cls(checkpoint, evaluated)

    def reached(self, model: ModelStatus) -> bool:
        """Whether there is nothing left to wait for."""
        if self.checkpoint is not None:
            return newest(model) >= self.checkpoint
        return model.phase == "finished" and (not self.evaluated or model.cycle.closed_at is not None)

    def __str__(self) -> str:
        if self.checkpoint is not None:
            return f"no checkpoint {self.checkpoint}"
        return "no evaluated last checkpoint" if self.evaluated else "no end of its training"


async def wait_for(
    look: Look,
    *,
    checkpoint: int | None,
    finished: bool,
    evaluated: bool,
    timeout: float | None,  # noqa: ASYNC109  # the error says what was not there in time
) -> ModelStatus:
    """Looks at a model until it has come so far; see `ModelCentricFLClient.wait`."""
    seen: tuple[Goal, ModelStatus] | None = None
    try:
        async with asyncio.timeout(timeout or None) as time:
            model = await look()
            goal, news = Goal.of(model, checkpoint, finished=finished, evaluated=evaluated), _old_news(model)
            seen = goal, model
            if timeout == 0:  # one look, however long it takes
                time.reschedule(asyncio.get_running_loop().time())
            pause = _FIRST_PAUSE
            while not _is_there(goal, model, news):
                await asyncio.sleep(pause)
                pause = min(1.5 * pause, _LONGEST_PAUSE)
                model = await _outlasting(look)
                seen = goal, model
    except TimeoutError:
        raise _too_late(seen, timeout or 0.0) from None
    return model


def _too_late(seen: tuple[Goal, ModelStatus] | None, timeout: float) -> WaitTimeoutError:
    """Says what was not there in time.

    Args:
        seen: what was waited for, and the model at the last look; None when there was not even a first one.
        timeout: for so many seconds.
    """
    if seen is None:
        return WaitTimeoutError(
            f"the grid did not answer within {timeout:g} s, so nobody knows how far the model is. Is the "
            "grid overloaded? A longer timeout would do then"
        )
    goal, model = seen
    return WaitTimeoutError(
        f"{_name(model)} has {goal} after {timeout:g} s: {outlook(model)}. Its newest checkpoint is "
        f"{newest(model)}"
    )


def _is_there(goal: Goal, model: ModelStatus, old_news: int) -> bool:
    """Whether the goal is reached.

    Raises:
        CycleFailedError: a cycle failed that is later than the one numbered `old_news`; or the training has
            ended without the checkpoint that is waited for.
    """
    if goal.checkpoint is not None and goal.reached(model):
        return True
    over = model.phase == "finished"
    if model.last_failure is not None and (
        (model.failed_cycle or 0) > old_news or (over and goal.checkpoint)
    ):
        which = "a cycle" if model.failed_cycle is None else f"cycle {model.failed_cycle}"
        ended = " The training is finished." if over else ""
        raise CycleFailedError(
            f"{which} of {_name(model)} failed and made no checkpoint: {shown(model.last_failure)}.{ended} "
            f"Its newest checkpoint is {newest(model)}"
        )
    if over and goal.checkpoint is not None:
        why = f" ({shown(model.stop)} ends it early)" if model.stop else ""
        raise CycleFailedError(
            f"the training of {_name(model)} is finished{why}, and there is no checkpoint {goal.checkpoint}: "
            f"its newest checkpoint is {newest(model)}. wait(finished=True) waits for its end, however early"
        )
    return goal.reached(model)


def _old_news(model: ModelStatus) -> int:
    """Number of the cycle up to which failures are nothing to tell: workers train in a later one already."""
    cycle = model.cycle
    ended = cycle.number if cycle.closed_at is not None else cycle.number - 1
    goes_on = cycle.closed_at is None and cycle.accepted > 0
    return ended if goes_on else ended - 1


async def _outlasting(look: Look) -> ModelStatus:
    """Looks once, and again for five minutes when the grid is away, as while it is started again."""
    for seconds in AWAY_SECONDS:
        try:
            return await look()
        except (GridConnectionError, GridResponseError) as error:
            if not passes(error):
                raise
            _log.warning("%s: asking again in %.0f s", error, seconds)
        await asyncio.sleep(seconds)
    return await look()


def _last_possible(model: ModelStatus, num_cycles: int) -> int:
    """The greatest number that a checkpoint can get: copies of older ones, which owners make, take some."""
    to_come = max(num_cycles - model.cycle.number + 1, 0)
    return max(num_cycles + 1, newest(model) + to_come)


def newest(model: ModelStatus) -> int:
    """Number of the newest checkpoint."""
    return model.checkpoints[0].number


def outlook(model: ModelStatus) -> str:
    """What the model's cycle waits for, in words."""
    cycle = model.cycle
    of = f" of {model.num_cycles}" if model.num_cycles and cycle.task == "training" else ""
    if cycle.phase != "open":
        return f"cycle {cycle.number}{of} is {cycle.phase}"
    if model.paused:
        of += ", which its owner has paused,"
    left = cycle.accepted - cycle.reported
    workers = f"{left} {'worker is' if left == 1 else 'workers are'}"
    reports = f"{cycle.reported} {'report' if cycle.reported == 1 else 'reports'}"
    if cycle.task == "evaluation":
        return f"the evaluation has {reports}; {workers} at it; it closes {closing(cycle)}"
    return (
        f"cycle {cycle.number}{of} has {reports} and needs {cycle.needed}; {workers} training; it closes "
        f"{closing(cycle)}"
    )


def closing(cycle: CycleStatus) -> str:
    """What ends an open cycle, in words; times are those of this machine's time zone."""
    limit = [] if cycle.limit is None else [f"with report {cycle.limit}"]
    time = [] if cycle.closes_at is None else [f"at {cycle.closes_at.astimezone():%Y-%m-%d %H:%M:%S}"]
    return " or ".join([*limit, *time]) or "when its workers have reported"


def _name(model: ModelStatus) -> str:
    return f"'{shown(model.name)}' {shown(model.version)}"
