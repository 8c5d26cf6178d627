"""Round: what a cycle waits for, as pure functions of plain numbers and the time.

A round is a row of stages. Each has a threshold, and may have a deadline. Training alone has one stage, in
which workers report. It ends

- at its limit: as soon as `max_diffs` reports have come, or `max_workers`, whichever is less; with a strategy
  that counts reports itself (FedBuff), at the strategy's number;
- with a `cycle_length`: at its deadline, if at least `min_diffs` (one, when absent) have come;
- with neither `max_diffs` nor `cycle_length`: at `min_diffs` reports when that is set, else as soon as no
  worker of the cycle is still training and at least `min_workers` have reported. So `max_workers` alone is
  no number that a cycle waits for: it may end with fewer.

A deadline that passes with too few reports moves by another `cycle_length`; reports that came stay. Workers
that have not reported by then lose their place (others may take it), but may still report while the cycle
is open. So do workers that have not reported `place_timeout` seconds after they were taken (a day, when
absent): a worker that crashed blocks its place, and a cycle that waits for everybody, no longer than that.

`num_cycles` counts every cycle, failed ones too: a model whose averaging fails comes to an end. If it was
hosted with an evaluation Plan, one more cycle follows, of evaluation without training, so that the last
checkpoint is measured too. It ends at a number of reports (by default as many as close a cycle), or when its
time is over, with whatever has come.

With secure aggregation a round has five stages: workers are gathered, tell their keys, train and share
their secrets, report under masks, and help to unmask the sum. Each ends as soon as all have come that may,
or at its deadline. With too few the round fails: no deadline is moved, and no place is given anew.
"""

import dataclasses
import enum
from typing import Protocol

from fedplan.federation.strategies import Strategy
from fedplan.text import counted
from fedplan.wire.config import EvaluationConfig, ServerConfig
from fedplan.wire.secure import SecureAggregationConfig

GATHER = "gather"
"""The stage of a secure round in which workers are taken."""

KEYS = "keys"
"""That in which they tell their public keys."""

SHARES = "shares"
"""That in which they train, and then share their secrets."""

REPORTS = "reports"
"""That in which they report: with secure aggregation under masks."""

UNMASKING = "unmasking"
"""That in which those who reported help to take the masks off the sum."""

_EVALUATION_SECONDS = 3600.0
"""How long a cycle of evaluation is open where neither its own length nor that of a cycle is set."""


class Task(enum.StrEnum):
    """What a worker does in a cycle, and what a cycle is for."""

    TRAINING = "training"
    EVALUATION = "evaluation"
    """To measure the model, and nothing else."""


class Progress(Protocol):
    """How far a cycle is."""

    @property
    def number(self) -> int:
        """1 for the first cycle of a model."""

    @property
    def task(self) -> Task:
        """What it is for."""

    @property
    def stage(self) -> str | None:
        """Name of its present stage; None of what an older grid opened, which is in its last one."""

    @property
    def is_open(self) -> bool:
        """Whether it takes workers and reports."""

    @property
    def is_over(self) -> bool:
        """Whether it has ended. The latest cycle of a model has ended only when no other follows."""

    @property
    def occupied(self) -> int:
        """Places taken: workers that are still at its task, and workers that reported."""

    @property
    def places(self) -> int | None:
        """How many places it has for those that train, where it was opened with so many."""

    @property
    def evaluators(self) -> int:
        """Workers beside these, which a cycle of training has taken for evaluation alone."""

    @property
    def reported(self) -> int:
        """Reports received."""

    @property
    def deadline(self) -> float | None:
        """When time ends the present stage; None when it does not."""


@dataclasses.dataclass(frozen=True, slots=True)
class Stage:
    """A part of a round, in which workers send one thing.

    Attributes:
        name: what they send.
        needed: so many must have come before the stage may end.
        limit: so many end it at once; None when no number does.
        length: seconds after which time ends it; None when time does not.
        at_threshold: whether it ends as soon as `needed` have come. Else, without a length, it ends when
            nobody is at it any more.
        is_secure: whether it is one of a secure round. Then it ends as soon as all have come that may, and
            the round fails if time ends it with too few.
    """

    name: str
    needed: int
    limit: int | None = None
    length: float | None = None
    at_threshold: bool = False
    is_secure: bool = False

    def is_complete(self, progress: Progress, now: float) -> bool:
        """Whether an open stage ends now, with enough."""
        if progress.reported < self.needed:
            return False
        if self.limit is not None and progress.reported >= self.limit:
            return True
        if self.is_secure and progress.reported >= progress.occupied:
            return True
        if progress.deadline is not None:
            return now >= progress.deadline
        return self.at_threshold or progress.occupied == progress.reported

    def is_lost(self, progress: Progress, now: float) -> bool:
        """Whether a stage of a secure round cannot end with enough: time is over, or too few are left."""
        if not self.is_secure or progress.reported >= self.needed:
            return False
        return progress.occupied < self.needed or is_overdue(progress, now)

    def lacking(self, progress: Progress) -> int | None:
        """How many reports are still to come until their number ends it; None when no number does."""
        ends_with_fewer = self.length is None and self.limit is not None and self.needed < self.limit
        goal = self.needed if self.at_threshold else None if ends_with_fewer else self.limit
        return None if goal is None else max(goal - progress.reported, 0)

    def deadline(self, now: float) -> float | None:
        """When a stage that begins, or is extended, now is ended by time."""
        return None if self.length is None else now + self.length


@dataclasses.dataclass(frozen=True, slots=True)
class Round:
    """What each cycle of a model consists of.

    Attributes:
        stages: in their order.
        cycles: after how many cycles the model is finished; None for never.
        evaluation: the only stage of the cycle of evaluation that follows the last one, if one does.
    """

    stages: tuple[Stage, ...]
    cycles: int | None = None
    evaluation: Stage | None = None

    @property
    def reporting(self) -> Stage:
        """The stage in which reports of a training come."""
        return next(stage for stage in self.stages if stage.name == REPORTS)

    @property
    def is_secure(self) -> bool:
        """Whether reports are added up by secure aggregation."""
        return self.reporting.is_secure

    def stage_of(self, cycle: Progress) -> Stage:
        """The present stage of a cycle; of one that has a single stage, that one."""
        stages = self._stages_of(cycle.task)
        return next((stage for stage in stages if stage.name == cycle.stage), stages[-1])

    def has_gathered(self, cycle: Progress) -> bool:
        """Whether it is settled who is in a cycle: a secure round takes nobody after its first stage."""
        return self.is_secure and cycle.task is Task.TRAINING and cycle.stage != GATHER

    def has_begun(self, cycle: Progress) -> bool:
        """Whether a secure round has its roster: a worker that starts anew then has other keys than that."""
        return self.has_gathered(cycle) and cycle.stage != KEYS

    def after(self, cycle: Progress, *, goal_reached: bool = False) -> Task | None:
        """What the cycle is for that follows one; None when none follows.

        Args:
            cycle: the one that ends.
            goal_reached: whether the training has come to what its owner wants; see `goals.is_reached`.
        """
        if cycle.task is Task.EVALUATION:
            return None
        if self.takes_place(cycle.number + 1) and not goal_reached:
            return Task.TRAINING
        return None if self.evaluation is None else Task.EVALUATION

    def first_stage(self, task: Task) -> Stage:
        """The stage with which a cycle begins."""
        return self._stages_of(task)[0]

    def takes_place(self, number: int) -> bool:
        """Whether the model has a cycle of training of this number."""
        return self.cycles is None or number <= self.cycles

    def _stages_of(self, task: Task) -> tuple[Stage, ...]:
        if task is Task.EVALUATION and self.evaluation is not None:
            return (self.evaluation,)
        return self.stages


def round_of(strategy: Strategy) -> Round:
    """The round of a model, by its server_config and its strategy."""
    config = strategy.setting.server
    if config.secure_aggregation is not None:
        return Round(secure_stages(config.secure_aggregation), config.num_cycles)
    if strategy.closes_at is not None:
        stage = Stage(REPORTS, strategy.closes_at, strategy.closes_at)
    else:
        limit = min((n for n in (config.max_diffs, config.max_workers) if n is not None), default=None)
        at_threshold = config.cycle_length is None and config.min_diffs is not None
        stage = Stage(REPORTS, _needed(config, limit), limit, config.cycle_length, at_threshold)
    evaluation = _evaluation(config, stage) if strategy.setting.evaluates else None
    return Round((stage,), config.num_cycles, evaluation)


def secure_stages(config: SecureAggregationConfig, members: int | None = None) -> tuple[Stage, ...]:
    """The stages of a secure round.

    Args:
        config: how it runs.
        members: how many are in it, once that is settled: of so many no more than `dropout` may be missing.
    """
    among = config.least if members is None else members
    fewest = -(-among * (1000 - config.dropout_thousandths) // 1000)
    brief = config.stage_length
    return (
        Stage(GATHER, config.least, config.workers, config.gather_length, is_secure=True),
        Stage(KEYS, config.least, None, brief, is_secure=True),
        Stage(SHARES, fewest, None, config.training_length, is_secure=True),
        Stage(REPORTS, fewest, None, brief, is_secure=True),
        Stage(UNMASKING, 1, None, brief, is_secure=True),
    )


_DOES = {
    GATHER: "asked to take part",
    KEYS: "told their keys",
    SHARES: "shared their secrets",
    REPORTS: "reported",
    UNMASKING: "helped to unmask the sum",
}


def why_lost(stage: Stage, came: int) -> str:
    """Why a secure round ends at a stage at which too few workers have come."""
    return (
        f"{counted(came, 'worker')} {_DOES[stage.name]}, and {stage.needed} are needed: the round ends at "
        f"its stage '{stage.name}' without a sum, and nothing of any report was unmasked"
    )


def enough_to_stop(strategy: Strategy) -> int:
    """How many reports make a checkpoint of the cycle in which a training is stopped.

    That are `min_diffs`, if they are set, also where a cycle would wait for `max_diffs`.
    """
    least = strategy.setting.server.min_diffs
    if least is None:
        return round_of(strategy).reporting.needed
    return max(least, strategy.least_reports)


def is_overdue(progress: Progress, now: float) -> bool:
    """Whether the time of an open cycle's stage has passed."""
    return progress.is_open and progress.deadline is not None and now >= progress.deadline


def gone_since(config: ServerConfig, now: float) -> float:
    """Workers that took their places at this time or before, and have not reported, are taken for gone."""
    return now - config.place_timeout


def _evaluation(config: ServerConfig, training: Stage) -> Stage:
    asked = config.evaluation or EvaluationConfig()
    usual = training.needed if training.limit is None and training.length is None else training.limit
    length = asked.length or config.cycle_length or _EVALUATION_SECONDS
    return Stage("evaluations", needed=0, limit=asked.reports or usual, length=length)


def _needed(config: ServerConfig, limit: int | None) -> int:
    if config.cycle_length is not None:
        return config.min_diffs or 1
    if config.max_diffs is not None:
        return limit or 1
    return config.min_diffs or config.min_workers or 1
