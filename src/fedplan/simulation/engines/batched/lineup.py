"""A client before it is computed: what it remembers, and its batches."""

import dataclasses
import time

from fedplan.client.training.training import Training
from fedplan.errors import ConfigError
from fedplan.federation import Task
from fedplan.simulation.engines.batched.course import Course, batches_of, course_of
from fedplan.simulation.engines.batched.group import Member, Side
from fedplan.simulation.participation import Participants, about_client, epoch_of
from fedplan.simulation.states import ClientState


@dataclasses.dataclass(frozen=True, slots=True)
class Lineup:
    """A client's part in a cycle, up to the first run of a Plan.

    Attributes:
        client: its number.
        state: what it remembers.
        evaluation: the batches on which it measures the model, if there is a Plan for that.
        training: the batches on which it trains, if it does.
        epoch: see `ClientState`: that of the training's last epoch.
        seconds: it took to draw the batches.
    """

    client: int
    state: ClientState
    evaluation: Course | None
    training: Course | None
    epoch: int
    seconds: float


def lineup_of(participants: Participants, client: int) -> Lineup:
    """Draws a client's batches, in the order in which it would take them alone.

    Raises:
        FedplanError: its data cannot be used; says which client.
    """
    started, work = time.perf_counter(), participants.work
    state = work.state_of(client)
    with about_client(client), participants.data(client, state) as (data, target):
        evaluation, training, start = None, None, participants.random(client)
        if participants.evaluation is not None:
            evaluation = course_of(participants.evaluation, data, target, start)
        if work.task is Task.TRAINING:
            trained_on = participants.trained_on(client, target)
            training = course_of(participants.training, data, trained_on, start)
        elif evaluation is None:
            raise ConfigError("there is no Plan to measure with")
        seconds = time.perf_counter() - started
        return Lineup(client, state, evaluation, training, epoch_of(data), seconds)


def member_of(participants: Participants, lineup: Lineup, course: Course, *, draws: bool) -> Member:
    """A client as a member of a group, with a seed if it draws random numbers."""
    model = participants.model_of(lineup.state).params
    return Member(model, course, participants.random(lineup.client) if draws else None)


def alone(participants: Participants, training: Training, lineup: Lineup, course: Course) -> Side:
    """A client's course, run by a worker's own code: bit by bit what the client alone computes.

    Raises:
        FedplanError: the Plan failed; says which client.
    """
    with about_client(lineup.client):
        start = participants.random(lineup.client)
        step = training.step(participants.model_of(lineup.state), course, course.size, start)
        for stretches in course.epochs:
            step.measurements.begin_epoch()
            for batch in batches_of(stretches):
                step(batch)
        return Side([param.cpu() for param in step.params], step.measurements)
