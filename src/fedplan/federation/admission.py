"""Admission: whom a cycle takes, as a pure function of plain records, the time and a lot.

`max_workers` is the number of places; with `over_selection` a cycle has as many as it was opened with, see
there. A worker has one place, and at most one report, in a cycle; one that asks again has the place that it
has, for the answer to its first request may have been lost. With `min_workers` nobody is taken until so many
workers have asked (those who asked a short while ago count, see `waits_until`); then the cycle takes whoever
asks. `pool_selection` "iterate" gives the places in the order of asking. "random" draws lots when more
workers are waiting than places are free: each is taken with the chance places/waiting, and may ask again; of
a herd that is spread over a long time, those count that will ask in the usual pause, for when they ask was
drawn too. `do_not_reuse_workers_until_cycle` = n: a worker that was taken into cycle c is not taken before
cycle c + n. `most_cycles_per_day`: who took part in so many of the model's cycles in the last 24 hours is not
taken. In one cycle nobody gets a place more than ten times, but for those times after which the
grid took it. Speeds below `minimum_download_speed` or
`minimum_upload_speed`, or not measured when these are set, keep a worker out; it may measure and ask again.
With secure aggregation workers are taken in the first stage of a cycle only, and once its round has begun a
worker that asks again is not given its place either: the others know the keys that it had. A client that
cannot train the model is sent away for good: it would fail after the download.

While a model is paused, nobody is taken who has no place yet; whoever asks may ask again.

With an `evaluation.fraction`, that part of the workers that a cycle takes only measures the model, if they do
such work: whenever one more of them keeps within the fraction, the next worker becomes one. They take no
place from those who train. A cycle of evaluation takes such workers alone, until as many have come as end it.
"""

import dataclasses
import enum
import math
from collections.abc import Sequence
from typing import Protocol

from fedplan.federation.pacing import Pace
from fedplan.federation.round import Progress, Round, Task, is_overdue
from fedplan.wire.config import ServerConfig


class Place(Protocol):
    """A worker's place in a cycle."""

    @property
    def reported(self) -> bool:
        """Whether its report has come."""

    @property
    def released(self) -> bool:
        """Whether the place was given up."""

    @property
    def aside(self) -> bool:
        """Whether it is one for evaluation alone in a cycle of training."""

    @property
    def grants(self) -> int:
        """How often it was given."""

    @property
    def lapses(self) -> int:
        """How often the grid took it, for no report had come in time."""


class Refusal(enum.StrEnum):
    """Why a worker is not taken into a cycle."""

    UNABLE = "the client cannot train the model"
    FINISHED = "the model's training is finished"
    CLOSING = "the cycle is closing"
    GATHERED = "it is settled who is in the cycle"
    PAUSED = "the model is paused"
    REPORTED = "the worker has reported in this cycle"
    RESTING = "the worker took part too recently"
    OFTEN = "the worker took part as often as it may in a day"
    FICKLE = "the worker had a place in this cycle too often, and gave it back"
    TOO_SLOW = "the worker's connection is too slow, or was not measured"
    FULL = "the cycle is full"
    GATHERING = "not enough workers have asked yet"
    LOT = "the lot fell on others"


DAY_SECONDS = 86_400.0

_MOST_GRANTS = 10
"""How often a worker gets a place in one cycle; those that the grid took do not count. A slow worker may
be one of the few without which the cycle cannot end."""

_KEEPS_ITS_TURN = frozenset({Refusal.FULL, Refusal.GATHERING, Refusal.LOT})


@dataclasses.dataclass(frozen=True, slots=True)
class Rejection:
    """A refusal, with the whole seconds after which asking again makes sense (None: never)."""

    why: Refusal
    timeout: int | None

    @property
    def waits(self) -> bool:
        """Whether the worker counts as waiting from now on."""
        return self.why in _KEEPS_ITS_TURN


@dataclasses.dataclass(frozen=True, slots=True)
class Asker:
    """What is known of a worker that asks to join.

    Attributes:
        download: Mbit/s; None or negative when it was not measured, 0 when it was too fast to measure.
        upload: as `download`.
        place: its place in this cycle, if it has one.
        last_cycle: number of the latest other cycle that took it.
        taken: when it took those places in the model's other cycles of the last day that it has reported in
            or still has, the oldest first.
        waiting: how many workers wait for a place, this one included.
        able: whether its client can train the model.
        evaluates: whether it takes a place in which it only measures the model.
    """

    download: float | None = None
    upload: float | None = None
    place: Place | None = None
    last_cycle: int | None = None
    taken: Sequence[float] = ()
    waiting: int = 1
    able: bool = True
    evaluates: bool = False


def needs_speed_test(config: ServerConfig) -> bool:
    """Whether workers are asked to measure their connection."""
    return config.minimum_download_speed is not None or config.minimum_upload_speed is not None


def keeps_waiting_list(config: ServerConfig) -> bool:
    """Whether it matters who waits for a place."""
    is_bounded = config.max_workers is not None or config.over_selection is not None
    lots = config.pool_selection == "random" and is_bounded
    return lots or config.min_workers is not None


def waits_until(rejection: Rejection, now: float) -> float:
    """Until when a rejected worker counts as waiting: long enough to ask again when it was told to.

    Not much longer: some clients ask each time with a new worker id, and would count twice.
    """
    return now + 1.25 * (rejection.timeout or 0) + 1.0


def task_for(config: ServerConfig, cycle: Progress, asker: Asker) -> Task:
    """What a worker does in a cycle if it is taken."""
    if cycle.task is Task.EVALUATION:
        return Task.EVALUATION
    if asker.place is not None:
        return Task.EVALUATION if asker.place.aside else Task.TRAINING
    fraction = 0.0 if config.evaluation is None else config.evaluation.fraction
    evaluators = cycle.evaluators + 1
    fits = evaluators <= fraction * (cycle.occupied + evaluators)
    return Task.EVALUATION if asker.evaluates and fits else Task.TRAINING


def admission(
    config: ServerConfig,
    round: Round,
    cycle: Progress,
    asker: Asker,
    now: float,
    *,
    draw: float,
    pace: Pace,
    paused: bool = False,
) -> Rejection | None:
    """Whether a worker may join a cycle.

    Args:
        config: the model's.
        round: the model's.
        cycle: the latest one of the model.
        asker: the worker.
        now: the time.
        draw: a random number in [0, 1), for the lot.
        pace: when those that wait are to ask again.
        paused: whether the model's owner lets no new worker join for now.

    Returns:
        None when it may join, else the rejection.
    """
    why = _obstacle(config, round, cycle, asker, now, draw, pace.at_once, paused)
    return None if why is None else Rejection(why, _timeout(why, config, round, cycle, asker, now, pace))


def _obstacle(
    config: ServerConfig,
    round: Round,
    cycle: Progress,
    asker: Asker,
    now: float,
    draw: float,
    at_once: float,
    paused: bool,
) -> Refusal | None:
    task = task_for(config, cycle, asker)
    if task is Task.TRAINING and not asker.able:
        return Refusal.UNABLE
    if cycle.task is Task.EVALUATION and not asker.evaluates:
        return Refusal.FINISHED
    if not cycle.is_open:
        follows = not cycle.is_over and _is_followed(round, cycle, asker)
        return Refusal.CLOSING if follows else Refusal.FINISHED
    if is_overdue(cycle, now):
        return Refusal.CLOSING
    if asker.place is not None and asker.place.reported:
        return Refusal.REPORTED
    if round.has_begun(cycle):
        return Refusal.GATHERED
    if asker.place is not None and not asker.place.released:
        return None
    if paused:
        return Refusal.PAUSED
    if round.has_gathered(cycle):
        return Refusal.GATHERED
    spent = _spent(config, cycle, task, asker, now)
    if spent is not None:
        return spent
    if not _is_fast_enough(config, asker):
        return Refusal.TOO_SLOW
    if task is Task.TRAINING:
        return _no_place(config, cycle, asker, draw, at_once)
    limit = round.stage_of(cycle).limit
    is_full = cycle.task is Task.EVALUATION and limit is not None and cycle.occupied >= limit
    return Refusal.FULL if is_full else None


def _spent(config: ServerConfig, cycle: Progress, task: Task, asker: Asker, now: float) -> Refusal | None:
    """Why a worker has taken part as often as it may; None when it has not."""
    if asker.place is not None and asker.place.grants - asker.place.lapses >= _MOST_GRANTS:
        return Refusal.FICKLE
    if task is Task.TRAINING and _free_from(config, asker) > cycle.number:
        return Refusal.RESTING
    if task is Task.TRAINING and _free_at(config, asker) > now:
        return Refusal.OFTEN
    return None


def _is_followed(round: Round, cycle: Progress, asker: Asker) -> bool:
    """Whether a cycle follows in which the worker may have something to do."""
    task = round.after(cycle)
    return task is Task.TRAINING or (task is Task.EVALUATION and asker.evaluates)


def _free_from(config: ServerConfig, asker: Asker) -> int:
    """Number of the first cycle that may take the worker again."""
    if asker.last_cycle is None:
        return 0
    return asker.last_cycle + (config.do_not_reuse_workers_until_cycle or 0)


def _free_at(config: ServerConfig, asker: Asker) -> float:
    """When the worker has taken part seldom enough in a day to be taken again."""
    most = config.most_cycles_per_day
    if most is None or len(asker.taken) < most:
        return -math.inf
    return asker.taken[-most] + DAY_SECONDS


def _is_fast_enough(config: ServerConfig, asker: Asker) -> bool:
    pairs = (
        (asker.download, config.minimum_download_speed),
        (asker.upload, config.minimum_upload_speed),
    )
    return all(least is None or _reaches(speed, least) for speed, least in pairs)


def _reaches(speed: float | None, least: float) -> bool:
    if speed is None or speed < 0:
        return False
    return speed == 0 or speed >= least  # a browser reports 0 when a fast link left nothing to measure


def _no_place(
    config: ServerConfig, cycle: Progress, asker: Asker, draw: float, at_once: float
) -> Refusal | None:
    places = config.places if cycle.places is None else cycle.places
    free = math.inf if places is None else places - cycle.occupied
    if free <= 0:
        return Refusal.FULL
    if cycle.occupied == 0 and asker.waiting < (config.min_workers or 1):
        return Refusal.GATHERING
    crowd = min(asker.waiting, at_once)
    if config.pool_selection == "random" and crowd > free and draw * crowd >= free:
        return Refusal.LOT
    return None


def _timeout(
    why: Refusal,
    config: ServerConfig,
    round: Round,
    cycle: Progress,
    asker: Asker,
    now: float,
    pace: Pace,
) -> int | None:
    """Whole seconds, at least one; None when no later cycle can take the worker."""
    if why in (Refusal.UNABLE, Refusal.FINISHED):
        return None
    if why in (Refusal.REPORTED, Refusal.FICKLE) and not _is_followed(round, cycle, asker):
        return None
    if why is Refusal.RESTING and not round.takes_place(_free_from(config, asker)):
        return None
    if why is Refusal.CLOSING:
        return pace.shortly()
    if why is Refusal.OFTEN:
        return pace.after(_free_at(config, asker) - now)
    if cycle.deadline is None or why in (Refusal.GATHERED, Refusal.GATHERING, Refusal.LOT, Refusal.TOO_SLOW):
        return pace.soon()
    left, stage = cycle.deadline - now, round.stage_of(cycle)
    only_time_ends_it = stage.limit is None and not stage.is_secure
    if math.isfinite(left) and (only_time_ends_it or left <= pace.soon()):  # infinite: a paused cycle's
        return pace.after(left)
    return pace.soon()
