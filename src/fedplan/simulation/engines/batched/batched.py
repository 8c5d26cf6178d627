"""The engine: a cohort in groups, whose clients are computed side by side."""

import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterator, Sequence

from fedplan.client.training.measurements import told_of_evaluation
from fedplan.client.training.training import Training
from fedplan.errors import ConfigError, FedplanError, PlanError
from fedplan.federation import Task
from fedplan.federation.schedule import is_schedule
from fedplan.plan.clients.plan import ClientsPlan, over_clients
from fedplan.simulation.engines.batched.course import Course
from fedplan.simulation.engines.batched.group import Sides, side_by_side
from fedplan.simulation.engines.batched.lineup import Lineup, alone, lineup_of, member_of
from fedplan.simulation.engines.batched.program import Program, refusal
from fedplan.simulation.engines.batched.reporting import reported
from fedplan.simulation.engines.engine import BlockInbox
from fedplan.simulation.engines.sequential import measure
from fedplan.simulation.participation import Participants, about_client
from fedplan.simulation.work import Experiment, Sent, Work
from fedplan.wire import Summary

_log = logging.getLogger("fedplan.simulation")

Compute = Callable[[Participants, Training, Sequence[Lineup], Sequence[Course]], Sides]
"""Runs the courses of some clients: (…, by which Plan, the clients, a course of each)."""


def why_not(experiment: Experiment) -> str | None:
    """Why clients cannot be computed side by side; None when they can, as far as is known before a step."""
    deployment = experiment.deployment
    return refusal(deployment.plans[deployment.training])


class Batched:
    """See `Engine`. Results are those of `Sequential` to within rounding.

    What the evaluation Plan measures is computed one after the other where it cannot be side by side.

    Args:
        experiment: what clients do.
        at_once: how many clients are computed side by side. By default so many that what a step works on
            stays in the processor's cache, with batches such as the first client has.

    Raises:
        ConfigError: what the clients do cannot be followed side by side.
    """

    name = "batched"

    def __init__(self, experiment: Experiment, at_once: int | None = None) -> None:
        if (reason := why_not(experiment)) is not None:
            raise ConfigError(f"the engine 'batched' cannot be used: {reason}. Take engine='sequential'")
        deployment = experiment.deployment
        self.at_once = at_once
        self._private = deployment.private
        self._scheduled = frozenset(k for k, v in deployment.client_config.items() if is_schedule(v))
        self._plans: dict[int, ClientsPlan] = {id(p): over_clients(p) for p in deployment.plans.values()}
        self._programs: dict[int, Program] = {}

    def run(self, work: Work, gathered: BlockInbox) -> Iterator[Sent]:
        """See `Engine`."""
        participants, clients = Participants(work), iter(work.clients)
        while lineups := self.lineups(participants, clients):
            yield from computed(participants, lineups, self.together, gathered)

    def close(self) -> None:
        """There is nothing to close."""

    def lineups(self, participants: Participants, clients: Iterator[int]) -> list[Lineup]:
        """The clients of the next group; none when there is none.

        Raises:
            FedplanError: the data of one cannot be used; says which client.
        """
        first = [lineup_of(participants, client) for client in itertools.islice(clients, 1)]
        if self.at_once is None and first:
            self.at_once = self._room(participants, first[0])
        more = itertools.islice(clients, (self.at_once or 1) - 1)
        return first + [lineup_of(participants, client) for client in more]

    def together(
        self,
        participants: Participants,
        training: Training,
        lineups: Sequence[Lineup],
        courses: Sequence[Course],
    ) -> Sides:
        """Runs courses side by side: see `Compute`.

        Raises:
            FedplanError: the Plan failed; says for which client, if it fails for one alone.
        """
        program, pairs = self._program(participants, training), zip(lineups, courses, strict=True)
        members = [member_of(participants, *pair, draws=program.draws) for pair in pairs]
        try:
            return side_by_side(program, members)
        except FedplanError as error:
            sides = one_by_one(participants, training, lineups, courses)  # says whose data it was
            reason = (
                f"the Plan '{training.plan.name}' cannot be computed for many clients side by side, and can "
                f"for each alone: {error}"
            )
            if training is participants.evaluation:
                _log.debug("%s", reason)
                return sides
            raise PlanError(f"{reason}. Take engine='sequential', or 'processes'") from error

    def _program(self, participants: Participants, training: Training) -> Program:
        program = self._programs.get(id(training.plan))
        if program is None or program.training is not training:
            clients = self._plans[id(training.plan)]
            program = Program(clients, training, participants.work.cycle, self._private, self._scheduled)
            self._programs[id(training.plan)] = program
        return program

    def _room(self, participants: Participants, lineup: Lineup) -> int | None:
        """How many clients to compute side by side; None while nobody trains."""
        if lineup.training is None:
            return None
        program = self._program(participants, participants.training)
        model = participants.model_of(lineup.state).params
        with about_client(lineup.client):
            return program.at_once(model, lineup.training.epochs[0][0])


def one_by_one(
    participants: Participants, training: Training, lineups: Sequence[Lineup], courses: Sequence[Course]
) -> Sides:
    """Runs courses one after the other: see `Compute`.

    Raises:
        FedplanError: the Plan failed; says for which client.
    """
    return Sides([alone(participants, training, *pair) for pair in zip(lineups, courses, strict=True)])


def computed(
    participants: Participants, lineups: Sequence[Lineup], compute: Compute, gathered: BlockInbox
) -> Iterator[Sent]:
    """What some clients send.

    Args:
        participants: of whom they are.
        lineups: the clients.
        compute: runs their courses.
        gathered: takes their reports, in the order of the clients.
    """
    measured: list[Summary | None] = [None] * len(lineups)
    if participants.evaluation is not None:
        courses = [lineup.evaluation for lineup in lineups if lineup.evaluation is not None]
        sides = compute(participants, participants.evaluation, lineups, courses).each
        measured = [told_of_evaluation(side.measurements.summary()) for side in sides]
    if participants.work.task is Task.EVALUATION:
        for lineup, summary in zip(lineups, measured, strict=True):
            if summary is not None:
                after = dataclasses.replace(lineup.state, epoch=lineup.epoch)
                yield measure(lineup.client, summary, after, gathered)
        return
    courses = [lineup.training for lineup in lineups if lineup.training is not None]
    sides_of = compute(participants, participants.training, lineups, courses)
    yield from reported(participants, lineups, sides_of, measured, gathered)
