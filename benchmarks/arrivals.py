"""Arrivals of up to a million workers at one model: what they ask for a second, and who gets a place.

A simulation of events by whole seconds, in memory. `admission`, `Pace`, `Stage`, `gone_since` and
over-selection are the grid's own functions. Workers ask exactly when they were told to. Of those that come in
one second while a cycle has no place, only some are told their seconds by `admission`; the others get what
lies between two of these answers.
"""

import heapq
import itertools
import math
import random
import statistics
import time
from typing import Any

import numpy as np

from benchmarks.crowds import DAY, HOUR, Calendar, Crowd, Ended, Given, Herd, Ints, Outcome, at_once, daily
from benchmarks.line import Line, Options
from fedplan.federation import Setting, Task, gone_since, is_overdue, round_of, strategy_of
from fedplan.federation.admission import Asker, Refusal, Rejection, admission
from fedplan.federation.over_selection import LATEST_CYCLES, DropOut, Held, drop_out, places_to_give
from fedplan.federation.pacing import Pace
from fedplan.grid import Settings
from fedplan.plan import Role
from fedplan.simulation.clock import Cycle
from fedplan.wire.config import parse_server_config

RETRY_SECONDS: float = Settings.model_fields["retry_seconds"].default
RETRIES_PER_SECOND: float = Settings.model_fields["retries_per_second"].default
SERVER = {
    "max_diffs": 500,
    "over_selection": 1.5,
    "min_diffs": 100,
    "cycle_length": 1800.0,
    "place_timeout": 600.0,
    "most_cycles_per_day": 1,
}
_REPORT, _LAPSE, _DEADLINE, _OPEN, _ASK = range(5)
"""Kinds of events, in the order in which those of one second happen."""
_PROBES = 17
"""So many answers stand for all that are given in a second while a cycle has no place."""
_REST = 900
"""Seconds after a report after which a worker asks for its next cycle."""
_SAME_FOR_ALL = frozenset({Refusal.FULL, Refusal.CLOSING})
"""Refusals that depend neither on who asks nor on a lot."""


class Arrivals:
    """A model's cycles, and the workers that come.

    Args:
        crowd: who comes.
        seed: of all chance.
        paced: whether answers spread those that wait, as the grid's do; else all are told the same seconds.
        server: the model's server_config.
    """

    def __init__(self, crowd: Crowd, seed: int, *, paced: bool = True, server: Any = None) -> None:
        self._config = parse_server_config(SERVER if server is None else server)
        self._round = round_of(
            strategy_of(Setting(self._config, {}, (((1,), "float32"),), None, (Role.TRAINED,)))
        )
        self._crowd, self._paced = crowd, paced
        self._chance, self._rng = random.Random(seed), np.random.default_rng(seed)  # nosec B311  # repeatable
        self._events: list[tuple[int, int, int, Any]] = []
        self._numbers = itertools.count()
        self._calendar, self._herd = Calendar(), Herd(crowd.seconds)
        self._waits = np.zeros(len(crowd.wakes), bool)
        self._knows = np.zeros(len(crowd.wakes), bool)  # workers that the grid has a row of
        self._waiting = 0
        self.took_part: dict[int, list[float]] = {}
        self._places: dict[int, Given] = {}
        self._seen: list[DropOut] = []
        self._most = 0
        self.out = Outcome(np.zeros(crowd.seconds, np.int64), np.full(len(crowd.wakes), -1))
        self._cycle = self._opened(1, 0)

    def run(self) -> Outcome:
        """Until the time is over."""
        self._calendar.add(np.arange(len(self._crowd.wakes)), self._crowd.wakes)
        self.out.requests += np.bincount(self._crowd.wakes, minlength=self._crowd.seconds)[
            : self._crowd.seconds
        ]
        self._push(0, _ASK, None)
        while self._events and self._events[0][0] < self._crowd.seconds:
            now, kind, _, what = heapq.heappop(self._events)
            if kind == _ASK:
                self._ask_all(now)
                self._push(now + 1, _ASK, None)
            elif kind == _OPEN:
                self._cycle = self._opened(self._cycle.number + 1, now)
            elif kind == _DEADLINE:
                self._pass_deadline(now, what)
            elif kind == _LAPSE:
                self._lapse(now, what)
            else:
                self._report(now, what)
        return self.out

    def _push(self, second: int, kind: int, what: Any) -> None:
        heapq.heappush(self._events, (second, kind, next(self._numbers), what))

    def _opened(self, number: int, now: int) -> Cycle:
        told = self._seen[-LATEST_CYCLES:]
        seen = DropOut(sum(one.gone for one in told), sum(one.judged for one in told))
        stage = self._round.first_stage(Task.TRAINING)
        self._places, self._most, self.last_opened = {}, 0, now
        cycle = Cycle(number, Task.TRAINING, number, now, stage.deadline(now), stage.name)
        cycle.places = places_to_give(self._config, seen)
        self._watch_deadline(cycle)
        return cycle

    def _watch_deadline(self, cycle: Cycle) -> None:
        if cycle.deadline is not None:
            self._push(math.ceil(cycle.deadline), _DEADLINE, cycle.number)

    def _ask_all(self, now: int) -> None:
        """All that ask in a second: those with an answer of their own, then the others in a drawn order."""
        batch = self._calendar.pop(now)
        if batch is None:
            return
        awake = self._crowd.sleeps[batch] > now
        self._stop_waiting(batch[~awake])
        batch = batch[awake]
        self.out.requests[now] += len(batch)
        for worker in batch[self._knows[batch]].tolist():
            self._answer(worker, now)
        batch = batch[~self._knows[batch]]
        if len(batch) == 0:
            return
        first = int(self._rng.integers(len(batch)))
        if _is_for_all(self._answer(int(batch[first]), now)):
            self._turn_away(np.delete(batch, first), now)
            return
        batch = self._rng.permutation(np.delete(batch, first))
        for at, worker in enumerate(batch.tolist(), 1):
            if _is_for_all(self._answer(worker, now)):
                self._turn_away(batch[at:], now)
                return

    def _decide(self, asker: Asker, now: int, draw: float) -> Rejection | None:
        herd = self._herd.count(now) if self._paced else 0
        pace = Pace(RETRY_SECONDS, RETRIES_PER_SECOND, herd, draw if self._paced else 0.5)
        lot = self._chance.random()
        return admission(self._config, self._round, self._cycle, asker, now, draw=lot, pace=pace)

    def _answer(self, worker: int, now: int) -> Rejection | None:
        """Answers one worker; None where it got a place."""
        if self._waits[worker]:
            self._waits[worker] = False
            self._waiting -= 1
        asker = Asker(
            place=self._places.get(worker), taken=self.took_part.get(worker, ()), waiting=1 + self._waiting
        )
        rejection = self._decide(asker, now, self._chance.random())
        if rejection is None:
            self._give(worker, now)
            return None
        self.out.rejections += 1
        if rejection.timeout is not None:
            self._herd.add_one(now + rejection.timeout)
            self._calendar.add_one(worker, now + rejection.timeout)
            self._waits[worker] = rejection.waits
            self._waiting += rejection.waits
        return rejection

    def _turn_away(self, workers: Ints, now: int) -> None:
        """Workers that are alike to the grid, when all get the same refusal."""
        if len(workers) == 0:
            return
        self._stop_waiting(workers)
        asker = Asker(waiting=self._waiting + len(workers))
        draws = np.linspace(0, 1 - 1e-9, _PROBES).tolist() if self._paced else [0.5]
        answers = [answer for draw in draws if (answer := self._decide(asker, now, draw)) is not None]
        told = [answer.timeout for answer in answers if answer.timeout is not None]
        if len(told) < len(draws):
            raise RuntimeError("a refusal that is the same for all turned out not to be one")
        lots = self._rng.random(len(workers))
        seconds = now + np.rint(np.interp(lots, draws, told)).astype(np.int64)
        self.out.rejections += len(workers)
        self._herd.add(seconds)
        self._waits[workers] = answers[0].waits
        self._waiting += len(workers) * answers[0].waits
        come = seconds < self._crowd.seconds
        self._calendar.add(workers[come], seconds[come])

    def _stop_waiting(self, workers: Ints) -> None:
        self._waiting -= int(self._waits[workers].sum())
        self._waits[workers] = False

    def _give(self, worker: int, now: int) -> None:
        """A place, the downloads, and what becomes of them: a report, or nothing."""
        given = Given(worker, self._cycle.number, now)
        self._places[worker] = given
        self._knows[worker] = True
        self._cycle.occupied += 1
        self._most = max(self._most, self._cycle.occupied)
        self.out.requests[now] += 2
        if self.out.placed[worker] < 0:
            self.out.placed[worker] = now
        self._push(now + math.ceil(self._config.place_timeout), _LAPSE, given)
        if self._chance.random() >= self._crowd.gone:
            median, sigma = self._crowd.training
            self._push(now + math.ceil(self._chance.lognormvariate(math.log(median), sigma)), _REPORT, given)

    def _report(self, now: int, given: Given) -> None:
        cycle = self._cycle
        self.out.requests[now] += 1
        if given.cycle == cycle.number and cycle.is_open:
            given.reported_at = now
            cycle.reported += 1
            cycle.occupied += given.released
            self._close_if_complete(now)
        else:
            self.out.late += 1
        self._calendar.add_one(given.worker, now + _REST)

    def _lapse(self, now: int, given: Given) -> None:
        cycle = self._cycle
        at_it = given.cycle == cycle.number and cycle.is_open and not given.reported and not given.released
        if at_it and given.taken <= gone_since(self._config, now):
            given.released, given.lapses = True, given.lapses + 1
            cycle.occupied -= 1
            self._close_if_complete(now)

    def _pass_deadline(self, now: int, number: int) -> None:
        cycle = self._cycle
        if number != cycle.number or not is_overdue(cycle, now):
            return
        self._close_if_complete(now)
        if cycle.is_open:  # with too few reports
            for given in self._places.values():
                given.released = given.released or not given.reported
            cycle.occupied = cycle.reported
            cycle.deadline = self._round.stage_of(cycle).deadline(now)
            self._watch_deadline(cycle)

    def _close_if_complete(self, now: int) -> None:
        cycle = self._cycle
        if not self._round.stage_of(cycle).is_complete(cycle, now):
            return
        cycle.is_open = False
        ended = Ended(int(cycle.opened), now, cycle.places or 0, self._most, cycle.reported)
        self.out.cycles.append(ended)
        held = [Held(given.taken, given.reported_at) for given in self._places.values()]
        self._seen.append(drop_out(held, now))
        for given in self._places.values():
            if given.reported or not given.released:
                self.took_part.setdefault(given.worker, []).append(given.taken)
        if self._round.after(cycle) is not None:
            self._push(now + self._crowd.closing, _OPEN, None)


def _is_for_all(rejection: Rejection | None) -> bool:
    return rejection is not None and rejection.why in _SAME_FOR_ALL


def figures(out: Outcome) -> list[tuple[str, float, str]]:
    """What is told of a simulation: name, figure and how it is written."""
    lengths = [cycle.ended - cycle.opened for cycle in out.cycles] or [0]
    tenths = [float((part >= 0).mean()) for part in np.array_split(out.placed, 10)]
    return [
        ("requests in the busiest second", float(out.requests.max()), ",.0f"),
        ("requests a second, 95 % of the seconds", float(np.quantile(out.requests, 0.95)), ",.0f"),
        ("requests a second, median", float(np.median(out.requests)), ",.0f"),
        ("cycles that ended", len(out.cycles), ",.0f"),
        ("seconds of a cycle, median", statistics.median(lengths), ",.0f"),
        ("rejections for each worker", out.rejections / len(out.placed), ",.1f"),
        ("workers without a place", float((out.placed < 0).mean()), ".1%"),
        ("with a place, of the worst tenth by waking", min(tenths), ".1%"),
        ("with a place, of the best tenth by waking", max(tenths), ".1%"),
        ("reports too late", out.late, ",.0f"),
    ]


def lines(what: str, crowd: Crowd, seed: int) -> list[Line]:
    """The grid's answers beside a constant retry time."""
    made: list[Line] = []
    sides = (figures(Arrivals(crowd, seed, paced=paced).run()) for paced in (True, False))
    for (name, ours, form), (_, theirs, _) in zip(*sides, strict=True):
        ratio = ours / theirs if theirs else math.nan
        cells = f"{ours:{form}}", f"{theirs:{form}}"
        made.append(Line(f"{what}: {name}", *cells, ratio, (ratio, ratio), math.inf))
    return made


def run(options: Options) -> list[Line]:
    """The table's lines."""
    made: list[Line] = []
    day, hour = (600, 600) if options.smoke else (DAY, HOUR // 2)
    for workers in (700,) if options.smoke else (10_000, 100_000, 1_000_000):
        crowds = {"daily": daily(workers, 1, day), "at once": at_once(workers, 1, hour)}
        for name, crowd in crowds.items():
            began = time.monotonic()
            made += lines(f"{workers:,} workers, {name}", crowd, 1)
            print(f"{workers:,} workers, {name}: {time.monotonic() - began:.0f} s", flush=True)
    return made
