"""One cycle after the other: who takes part, what comes of it, and the next checkpoint."""

import dataclasses
import itertools
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime

from fedplan.errors import AggregationError, ConfigError, PlanError, SecureAggregationError, WireError
from fedplan.federation import Average, Round, ServerState, Strategy, Task, Tensors, next_model, round_of
from fedplan.federation.goals import is_reached
from fedplan.federation.privacy import spending_of, why_budget_is_spent
from fedplan.federation.secure import average_of
from fedplan.federation.secure.cycles import average_for, metrics_of, next_exponents
from fedplan.federation.sums import told_metrics
from fedplan.simulation.clock import Clock, Cycle, HeldPlace
from fedplan.simulation.engines.engine import Engine
from fedplan.simulation.gathering import Gathered, Outcome
from fedplan.simulation.history import SimulatedRow
from fedplan.simulation.measuring import Tester
from fedplan.simulation.secure.playing import SecureRounds
from fedplan.simulation.states import ClientStates
from fedplan.simulation.work import Experiment, Work
from fedplan.wire.messages import PrivacySpent

_log = logging.getLogger("fedplan.simulation")


@dataclasses.dataclass(frozen=True, slots=True)
class RunState:
    """How far a simulation is, between two cycles.

    Attributes:
        checkpoint: number of the newest checkpoint; 1 is the model before the first cycle.
        models: what changes of the model in the newest checkpoint, and in those from which clients still
            train.
        remembered: what the strategy remembers.
        rows: what came of the cycles so far.
        exponents: what the last sum of a secure round has left for the scales of the next one.
    """

    checkpoint: int
    models: Mapping[int, Tensors]
    remembered: ServerState
    rows: tuple[SimulatedRow, ...] = ()
    exponents: tuple[int, ...] | None = None

    @property
    def model(self) -> Tensors:
        """What changes of the model in the newest checkpoint."""
        return self.models[self.checkpoint]


@dataclasses.dataclass(slots=True)
class _Received:
    """What is counted of a cycle's reports.

    Attributes:
        bytes: of those that were taken.
        refused: how many were not.
    """

    bytes: int = 0
    refused: int = 0


class Rounds:
    """Simulates cycles.

    Attributes:
        progress: how far it is.

    Args:
        experiment: what stays the same.
        clock: the virtual time.
        engine: computes what clients do.
        states: what they remember.
        measure: measures the model after a round; None for not at all.
        every: after how many rounds that is done; after the last one it is done in any case.
        progress: how far an earlier run came; from the beginning by default.
        masked: whether secure rounds run the whole protocol.
    """

    def __init__(
        self,
        experiment: Experiment,
        clock: Clock,
        engine: Engine,
        states: ClientStates,
        measure: Tester | None,
        every: int,
        progress: RunState | None = None,
        *,
        masked: bool = False,
    ) -> None:
        deployment = experiment.deployment
        self.progress = progress or RunState(1, {1: deployment.start}, ServerState())
        self.engine = engine
        self._experiment = experiment
        self._strategy: Strategy = deployment.strategy
        self._round: Round = round_of(deployment.strategy)
        self._clock = clock
        self._states = states
        self._measure = measure
        self._every = every
        self._secure = SecureRounds(experiment, clock, states, masked=masked)

    def run(self, rounds: int) -> Iterator[SimulatedRow]:
        """The cycles that are still to be simulated, each as soon as it has ended.

        Args:
            rounds: how many cycles of training there are to be in all.
        """
        while (task := self._next_task(self.progress.rows, rounds)) is not None:
            self.progress = self._cycle(task, rounds)
            yield self.progress.rows[-1]

    def _next_task(self, rows: Sequence[SimulatedRow], rounds: int) -> Task | None:
        """What the cycle is for that follows these; None when none does."""
        if not rows:
            return Task.TRAINING
        last = Cycle(rows[-1].cycle, Task(rows[-1].task), rows[-1].checkpoint, self._clock.now, None)
        ends = self._is_goal_reached(rows) or self._is_budget_spent(rows)
        task = self._round.after(last, goal_reached=ends)
        return None if task is Task.TRAINING and last.number >= rounds else task

    def _is_goal_reached(self, rows: Sequence[SimulatedRow]) -> bool:
        """Whether the training has come to what its owner wants, by the metrics of these cycles."""
        stop = self._experiment.deployment.server_config.stop
        if stop is None:
            return False
        told = ((row.checkpoint, row.metrics.get(stop.metric)) for row in rows)
        return is_reached(stop, {number: metric.value for number, metric in told if metric is not None})

    def _is_budget_spent(self, rows: Sequence[SimulatedRow]) -> bool:
        """Whether one more cycle would exceed the model's max_epsilon."""
        spent = sum(row.privacy is not None for row in rows)
        return why_budget_is_spent(spent, self._experiment.deployment.server_config.privacy) is not None

    def _cycle(self, task: Task, rounds: int) -> RunState:
        """Simulates one cycle. `progress` stays as it is, so that an interruption leaves nothing half.

        Args:
            task: what it is for.
            rounds: see `run`.
        """
        started, progress = time.perf_counter(), self.progress
        number = len(progress.rows) + 1
        self._states.begin(number)
        cycle = self._clock.open(number, task, progress.checkpoint)
        received, outcome, after = self._secured(cycle) if self._round.is_secure else self._gathered(cycle)
        row = SimulatedRow(
            cycle=number,
            task=task.value,
            checkpoint=cycle.checkpoint,
            phase="done" if outcome.failure is None else "failed",
            opened_at=datetime.fromtimestamp(cycle.opened, UTC),
            closed_at=datetime.fromtimestamp(self._clock.now, UTC),
            workers=cycle.occupied + cycle.evaluators,
            reports=outcome.reports,
            samples=outcome.samples,
            metrics=dict(outcome.metrics),
            failure=outcome.failure,
            report_bytes=received.bytes,
            refused=received.refused,
            late=cycle.late,
            gone=cycle.gone,
            privacy=self._spent(task, cycle, progress.checkpoint, after.checkpoint, outcome),
            seconds=time.perf_counter() - started,
        )
        rows = (*progress.rows, row)
        if task is Task.TRAINING and self._measure is not None and self._is_due(rows, rounds):
            found = self._measure(self._experiment.deployment.whole(after.model), number)
            told = {"metrics": {**row.metrics, **found}, "seconds": time.perf_counter() - started}
            rows = (*progress.rows, row.model_copy(update=told))
        return dataclasses.replace(after, rows=rows)

    def _gathered(self, cycle: Cycle) -> tuple[_Received, Outcome, RunState]:
        """A cycle whose reports the grid sees."""
        with Gathered(self._strategy) as gathered:
            received = self._receive(cycle, gathered)
            self._clock.close(cycle)
            if cycle.task is Task.EVALUATION:
                return received, gathered.measured(), self.progress
            return received, *self._average(gathered, cycle.number)

    def _secured(self, cycle: Cycle) -> tuple[_Received, Outcome, RunState]:
        """A cycle whose reports are added up securely. When the round ends without a sum, the model stays."""
        progress = self.progress
        played = self._secure.play(self.engine, cycle, progress.model, progress.exponents)
        cycle.is_open = False
        received = _Received(played.bytes, played.refused)
        if played.manifest is None or played.total is None:
            return received, Outcome(failure=played.failure), progress
        try:
            found = average_of(played.manifest, played.total)
            average = average_for(self._strategy.setting, found, played.reports)
            after = self._changed(average, cycle.number)
            exponents = next_exponents(played.manifest, found, played.reports)
        except (AggregationError, SecureAggregationError) as error:
            return received, Outcome(failure=str(error)), progress
        told = told_metrics(metrics_of(found, played.reports))
        outcome = Outcome(played.reports, average.samples, told)
        return received, outcome, dataclasses.replace(after, exponents=exponents)

    def _spent(
        self, task: Task, cycle: Cycle, before: int, after: int, outcome: Outcome
    ) -> PrivacySpent | None:
        """What a cycle has spent of the model's privacy, as a grid's ledger has it.

        Args:
            task: what the cycle was for.
            cycle: the cycle.
            before: number of the newest checkpoint before it.
            after: and after it.
            outcome: what came of it.
        """
        config = self._experiment.deployment.server_config.privacy
        if config is None or task is not Task.TRAINING:
            return None
        spent = sum(row.privacy is not None for row in self.progress.rows)
        made = after if after > before else None
        participants = cycle.reported if outcome.failure else outcome.reports
        return spending_of(config, spent, cycle.number, made, participants).told

    def _is_due(self, rows: Sequence[SimulatedRow], rounds: int) -> bool:
        """Whether the model is measured after these cycles: in its turn, or since no training follows."""
        return len(rows) % self._every == 0 or self._next_task(rows, rounds) is not Task.TRAINING

    def _receive(self, cycle: Cycle, gathered: Gathered) -> _Received:
        """Has the engine compute the reports that come, until the cycle has enough of them."""
        received = _Received()
        while come := self._clock.reports(cycle):
            for work, places in self._works(come, cycle):
                for sent in self.engine.run(work, gathered):
                    if sent.refusal is None:
                        received.bytes += sent.bytes
                        cycle.refusals = 0
                        self._states.put(sent.client, sent.state)
                    else:
                        received.refused += 1
                        _log.debug("the report of client %d is refused: %s", sent.client, sent.refusal)
                        self._clock.refuse(cycle, places[sent.client], sent.refusal)
        return received

    def _works(self, come: Sequence[HeldPlace], cycle: Cycle) -> Iterator[tuple[Work, dict[int, HeldPlace]]]:
        """The reports that come, by the cycle and the model of their clients; the oldest first."""
        order = sorted(come, key=_began)
        for (began, checkpoint, task), places in itertools.groupby(order, _began):
            by_client = {place.client: place for place in places}
            yield (
                Work(
                    self._experiment,
                    Task(task),
                    began,
                    self.progress.models[checkpoint],
                    cycle.checkpoint - checkpoint,
                    tuple(by_client),
                    self._states.get,
                ),
                by_client,
            )

    def _average(self, gathered: Gathered, cycle: int) -> tuple[Outcome, RunState]:
        """Makes the next checkpoint; the model stays what it is when that fails."""
        progress = self.progress
        try:
            outcome, average = gathered.average(progress.remembered)
            return outcome, self._changed(average, cycle)
        except (AggregationError, ConfigError, PlanError, WireError) as error:
            return Outcome(failure=str(error)), progress

    def _changed(self, average: Average, cycle: int) -> RunState:
        """The next checkpoint.

        Raises:
            AggregationError: the average cannot change the model.
        """
        progress = self.progress
        key = self._experiment.chance.privacy_key(cycle)
        changed, remembered = next_model(self._strategy, progress.model, average, progress.remembered, key)
        number = progress.checkpoint + 1
        needed = {place.checkpoint for place in self._clock.waiting}
        models = {at: model for at, model in progress.models.items() if at in needed}
        return RunState(number, models | {number: changed}, remembered)


def _began(place: HeldPlace) -> tuple[int, int, str]:
    return place.cycle, place.checkpoint, place.task.value
