"""Virtual time: which clients have places in a cycle, and when their reports come.

Nothing is computed here. A cycle is played with the very `Round` and `admission` of a grid, on a clock that
jumps from one event to the next: a report comes, a place lapses, a deadline passes.
"""

import dataclasses
import heapq
import math
from collections.abc import Iterator, Mapping
from typing import Any

from fedplan.errors import StuckCycleError
from fedplan.federation import Round, Strategy, Task
from fedplan.federation.admission import DAY_SECONDS, Asker, admission, task_for
from fedplan.federation.pacing import Pace
from fedplan.simulation.availability import Availability
from fedplan.simulation.chance import Chance
from fedplan.simulation.secure.turnout import Turnout, turnout_of

_MOST_EXTENSIONS = 1000
"""A cycle that was extended so often will not get its reports."""

_REFUSED_COHORTS, _LEAST_REFUSED = 3, 100
"""So many cohorts of reports, or at least so many reports, are refused in succession only where all would be,
as when a training diverges. The rest of a large population need not be trained to find that out."""


@dataclasses.dataclass(order=True, slots=True)
class HeldPlace:
    """A client's place in a cycle.

    Attributes:
        time: when something happens to it next: its report comes, or the place lapses.
        number: of all places, in the order in which they were given.
        client: whose it is.
        cycle: number of the cycle that gave it.
        checkpoint: number of the checkpoint that the client received.
        task: what the client does.
        reports_at: when its report comes; None when it never does.
        released: whether the place was taken away.
    """

    time: float
    number: int
    client: int = dataclasses.field(compare=False)
    cycle: int = dataclasses.field(compare=False)
    checkpoint: int = dataclasses.field(compare=False)
    task: Task = dataclasses.field(compare=False)
    reports_at: float | None = dataclasses.field(compare=False)
    released: bool = dataclasses.field(default=False, compare=False)


@dataclasses.dataclass(slots=True)
class Cycle:
    """How far a cycle is: a `Progress`, with what becomes of its places beside it.

    Attributes:
        number: see `Progress`.
        task: see `Progress`.
        checkpoint: number of the checkpoint that its clients receive.
        opened: when it began.
        deadline: see `Progress`.
        stage: see `Progress`.
        is_open: see `Progress`.
        is_over: see `Progress`.
        occupied: see `Progress`.
        evaluators: see `Progress`.
        reported: see `Progress`.
        late: reports that came too late for their own cycle, and for this one.
        gone: places that clients lost.
        busy: clients that are at it, or have reported.
        taken: how many places each client had so far.
        places: see `Progress`; the cohort bounds them here.
        extensions: how often its deadline was moved.
        refusals: reports that were refused since one was taken.
        refusal: why the last of them was.
        turn: how often all clients were asked.
        order: those of this turn that were not asked yet.
    """

    number: int
    task: Task
    checkpoint: int
    opened: float
    deadline: float | None
    stage: str | None = None
    is_open: bool = True
    is_over: bool = False
    occupied: int = 0
    evaluators: int = 0
    reported: int = 0
    late: int = 0
    gone: int = 0
    extensions: int = 0
    refusals: int = 0
    refusal: str = ""
    busy: set[int] = dataclasses.field(default_factory=set)
    taken: dict[int, int] = dataclasses.field(default_factory=dict)
    places: int | None = None
    turn: int = 0
    order: Iterator[int] = dataclasses.field(default_factory=lambda: iter(()))


class Clock:
    """Gives places to clients, and says in which order their reports come.

    Attributes:
        now: seconds since the simulation began.
        waiting: the places of clients that have not reported, as a heap.
        given: how many places were given so far.
        last_cycles: of clients that rest after a cycle, its number.
        taken: of clients that may take part only so often in a day, when they did.

    Args:
        strategy: the model's.
        round: the model's.
        chance: draws who asks, who is gone, and how long the others take.
        availability: how long clients take.
        population: how many clients there are.
        cohort: how many of them train in a cycle, or at a time if the strategy is asynchronous.
    """

    def __init__(
        self,
        strategy: Strategy,
        round: Round,
        chance: Chance,
        availability: Availability,
        population: int,
        cohort: int,
    ) -> None:
        self.now = 0.0
        self.waiting: list[HeldPlace] = []
        self.given = 0
        self.last_cycles: dict[int, int] = {}
        self.taken: dict[int, list[float]] = {}
        self._config = strategy.setting.server
        self._evaluates = strategy.setting.evaluates
        self._staleness = strategy.staleness
        self._round = round
        self._chance = chance
        self._availability = availability
        self._population = population
        self._cohort = cohort

    def to_json(self) -> dict[str, Any]:
        """Its time, and the places that are still held, between two cycles."""
        return {
            "now": self.now,
            "given": self.given,
            "last_cycles": list(self.last_cycles.items()),
            "taken": list(self.taken.items()),
            "waiting": [dataclasses.asdict(place) for place in self.waiting],
        }

    def restore(self, told: Mapping[str, Any]) -> None:
        """Goes to the time at which `to_json` was called."""
        self.now, self.given = float(told["now"]), int(told["given"])
        self.last_cycles = dict(told["last_cycles"])
        self.taken = {client: list(times) for client, times in told.get("taken", ())}
        self.waiting = [HeldPlace(**{**place, "task": Task(place["task"])}) for place in told["waiting"]]

    def open(self, number: int, task: Task, checkpoint: int) -> Cycle:
        """Opens a cycle, and gives its places away."""
        if task is Task.EVALUATION:
            self.waiting.clear()  # nothing that is still trained would be averaged
        rest = self._config.do_not_reuse_workers_until_cycle or 0
        self.last_cycles = {c: last for c, last in self.last_cycles.items() if last + rest > number}
        first = self._round.first_stage(task)
        cycle = Cycle(number, task, checkpoint, self.now, first.deadline(self.now), first.name)
        cycle.order = self._chance.order(number, 0, self._population)
        cycle.busy = {place.client for place in self.waiting}
        self._fill(cycle)
        return cycle

    def reports(self, cycle: Cycle) -> list[HeldPlace]:
        """The next reports that come, up to the one with which the cycle may close if all of them are taken.

        They count in the cycle's progress already; `refuse` takes one back. The list is empty when the cycle
        is complete without any more.

        Raises:
            StuckCycleError: the cycle can never close.
        """
        come: list[HeldPlace] = []
        stage = self._round.stage_of(cycle)
        while not stage.is_complete(cycle, self.now):
            place = self._next(cycle)
            if place is None:
                continue
            if place.time != place.reports_at:
                self._release(cycle, place)
            elif self._is_too_late(cycle, place):
                cycle.late += 1
                cycle.busy.discard(place.client)
            else:
                self._count(cycle, place)
                come.append(place)
            if not stage.is_complete(cycle, self.now):  # whoever asks then waits for the next cycle
                self._fill(cycle)
        return sorted(come, key=lambda place: place.number)

    def refuse(self, cycle: Cycle, place: HeldPlace, reason: str) -> None:
        """Takes back a report that was refused: its client leaves the cycle, and another may come.

        Args:
            cycle: the open one.
            place: whose report it was.
            reason: why it was refused.

        Raises:
            StuckCycleError: so many were refused in succession that all would be.
        """
        if self._counts(cycle, place):
            cycle.reported -= 1
            cycle.occupied -= 1
        cycle.refusals, cycle.refusal = cycle.refusals + 1, reason
        if cycle.refusals >= max(_REFUSED_COHORTS * self._cohort, _LEAST_REFUSED):
            raise StuckCycleError(
                f"{cycle.refusals} reports of cycle {cycle.number} were refused in succession, the last one "
                f"because: {reason}. Has the training diverged? A smaller learning rate would do then"
            )
        self._fill(cycle)

    def close(self, cycle: Cycle) -> None:
        """Ends a cycle. Where nobody may report later, those that are still at it have worked for nothing."""
        cycle.is_open = False
        if self._staleness is None:
            cycle.late += sum(place.reports_at is not None for place in self.waiting)
            cycle.gone += sum(place.reports_at is None and not place.released for place in self.waiting)
            self.waiting.clear()

    def turnout(self, cycle: Cycle) -> Turnout:
        """Which of a secure round's clients are there at each of its stages. Nobody waits any more then."""
        config = self._config.secure_aggregation
        length = math.inf if config is None else config.training_length
        places, self.waiting = self.waiting, []
        return turnout_of(places, cycle.number, length, self._chance, self._availability)

    def _next(self, cycle: Cycle) -> HeldPlace | None:
        """The next place to which something happens; None when it was the cycle's deadline that passed."""
        first = self.waiting[0].time if self.waiting else None
        if cycle.deadline is not None and (first is None or cycle.deadline < first):
            self.now = max(self.now, cycle.deadline)
            if not self._round.stage_of(cycle).is_complete(cycle, self.now):
                self._extend(cycle)
            return None
        if first is None:
            raise StuckCycleError(
                f"cycle {cycle.number} has {cycle.reported} reports and can never close: no other client may "
                f"have a place in it. It needs {self._round.stage_of(cycle).needed} reports, the cohort is "
                f"{self._cohort} of {self._population} clients" + _refused(cycle)
            )
        place = heapq.heappop(self.waiting)
        self.now = place.time
        return place

    def _extend(self, cycle: Cycle) -> None:
        """Moves the deadline; clients that have not reported lose their places, but may still report."""
        cycle.extensions += 1
        if cycle.extensions > _MOST_EXTENSIONS:
            raise StuckCycleError(
                f"cycle {cycle.number} was extended {_MOST_EXTENSIONS} times and has {cycle.reported} "
                "reports: with this availability it never gets as many as it needs; a longer cycle_length, a "
                "larger cohort or a smaller min_diffs would do"
            )
        cycle.deadline = self._round.stage_of(cycle).deadline(self.now)
        for place in self.waiting:
            if place.task is Task.TRAINING:
                self._take_away(cycle, place)
        self.waiting = [place for place in self.waiting if place.reports_at is not None or not place.released]
        heapq.heapify(self.waiting)
        cycle.occupied = cycle.reported
        self._fill(cycle)

    def _release(self, cycle: Cycle, place: HeldPlace) -> None:
        """Takes the place of a client that has been silent for too long; a slow one may still report."""
        if not place.released and place.cycle == cycle.number and self._counts(cycle, place):
            cycle.occupied -= 1
        self._take_away(cycle, place)
        if place.reports_at is not None:
            place.time = place.reports_at
            heapq.heappush(self.waiting, place)

    def _take_away(self, cycle: Cycle, place: HeldPlace) -> None:
        if not place.released and place.reports_at is None:
            cycle.gone += 1
            cycle.busy.discard(place.client)  # it may ask again; who is slow is still at it, and does not ask
            if self.taken.get(place.client):
                self.taken[place.client].pop()  # it did not take part
        place.released = True

    def _is_too_late(self, cycle: Cycle, place: HeldPlace) -> bool:
        late = cycle.checkpoint - place.checkpoint
        return place.cycle != cycle.number and late > (self._staleness or 0)

    def _counts(self, cycle: Cycle, place: HeldPlace) -> bool:
        """Whether a place is one of those that the cycle waits for."""
        return place.task is Task.TRAINING or cycle.task is Task.EVALUATION

    def _count(self, cycle: Cycle, place: HeldPlace) -> None:
        if not self._counts(cycle, place):
            return
        cycle.reported += 1
        if place.released or place.cycle != cycle.number:
            cycle.occupied += 1
        if place.cycle == cycle.number:
            cycle.busy.add(place.client)
        else:
            cycle.busy.discard(place.client)

    def _fill(self, cycle: Cycle) -> None:
        """Gives places to clients that ask, until the cohort is complete or nobody else may have one."""
        while self._has_room(cycle):
            client = self._asking(cycle)
            if client is None or not self._take(cycle, client):
                return

    def _has_room(self, cycle: Cycle) -> bool:
        if cycle.task is Task.EVALUATION:  # its reports are as many as its owner wants, whatever the cohort
            return cycle.occupied < max(self._cohort, self._round.stage_of(cycle).limit or 0)
        if self._staleness is None:
            return cycle.occupied < self._cohort
        return sum(not place.released for place in self.waiting) < self._cohort

    def _asking(self, cycle: Cycle) -> int | None:
        """The next client that asks and may have a place: of those left in this turn, and all in the next."""
        for _ in range(2):
            for client in cycle.order:
                rests = self.last_cycles.get(client, cycle.number) != cycle.number
                if client not in cycle.busy and not rests and not self._is_spent(client):
                    return client
            cycle.turn += 1
            cycle.order = self._chance.order(cycle.number, cycle.turn, self._population)
        return None

    def _is_spent(self, client: int) -> bool:
        """Whether a client has taken part as often as it may in a day."""
        most = self._config.most_cycles_per_day
        if most is None:
            return False
        recent = [time for time in self.taken.get(client, ()) if time > self.now - DAY_SECONDS]
        self.taken[client] = recent
        return len(recent) >= most

    def _take(self, cycle: Cycle, client: int) -> bool:
        """Gives a client a place, if the grid would."""
        asker = Asker(waiting=self._cohort, evaluates=self._evaluates)
        rejected = admission(self._config, self._round, cycle, asker, self.now, draw=0.0, pace=Pace(1.0))
        if rejected is not None:
            return False
        task = task_for(self._config, cycle, asker)
        at = cycle.taken.get(client, 0)
        cycle.taken[client] = at + 1
        gone = self._availability.is_gone(self._chance, client, cycle.number, at)
        reports_at = None if gone else self.now + self._availability.takes(self._chance, client, cycle.number)
        lapses_at = self.now + self._config.place_timeout
        time = lapses_at if reports_at is None else min(reports_at, lapses_at)
        self.given += 1
        place = HeldPlace(time, self.given, client, cycle.number, cycle.checkpoint, task, reports_at)
        heapq.heappush(self.waiting, place)
        cycle.busy.add(client)
        if self._counts(cycle, place):
            cycle.occupied += 1
        else:
            cycle.evaluators += 1
        if self._config.most_cycles_per_day is not None and task is Task.TRAINING:
            self.taken.setdefault(client, []).append(self.now)
        if self._config.do_not_reuse_workers_until_cycle and task is Task.TRAINING:
            self.last_cycles[client] = cycle.number
        return True


def _refused(cycle: Cycle) -> str:
    """What is to be said of the reports that were refused."""
    if not cycle.refusals:
        return ""
    return f". {cycle.refusals} reports were refused, the last one because: {cycle.refusal}"
