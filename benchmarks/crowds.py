"""Crowds of workers: when they wake up and ask, how many wait, and what came of it."""

import dataclasses
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]

HOUR, DAY = 3600, 86_400
_COARSE = 32
"""Seconds that share a heap of workers until they are near."""


@dataclasses.dataclass(frozen=True)
class Crowd:
    """Who comes.

    Attributes:
        wakes: the second in which each worker wakes up, in rising order.
        sleeps: the second from which on it does not ask any more.
        seconds: how long is simulated.
        gone: the share of those that take a place and never report.
        training: seconds from taking a place to the report: the median, and sigma of the log-normal.
        closing: seconds for which a cycle that has its reports is averaged.
    """

    wakes: Ints
    sleeps: Ints
    seconds: int
    gone: float = 0.2
    training: tuple[float, float] = (120.0, 0.6)
    closing: int = 1


def daily(workers: int, seed: int, seconds: int = DAY) -> Crowd:
    """Each wakes up once a day for 30 to 90 minutes, twice as many at the best time as in the mean."""
    rng = np.random.default_rng(seed)
    times = np.linspace(0, 1, 1441)
    shares = times - np.sin(2 * math.pi * times) / (2 * math.pi)  # nobody at the ends, most in the middle
    wakes = np.sort(np.interp(rng.random(workers), shares, times * seconds).astype(np.int64))
    return Crowd(wakes, wakes + rng.integers(HOUR // 2, HOUR * 3 // 2, workers), seconds)


def at_once(workers: int, seed: int, seconds: int = HOUR // 2) -> Crowd:
    """All wake up within a minute, as after a message to all of them, and stay."""
    wakes = np.sort(np.random.default_rng(seed).integers(0, 60, workers))
    return Crowd(wakes, np.full(workers, seconds), seconds)


class Calendar:
    """Which workers ask in which second: by the second for the near ones, by `_COARSE` for the others."""

    def __init__(self) -> None:
        self._near: dict[int, list[Ints]] = {}
        self._far: dict[int, list[tuple[Ints, Ints]]] = {}
        self._single: dict[int, list[int]] = {}
        self._reached = 0

    def add_one(self, worker: int, second: int) -> None:
        """As `add`, for one worker."""
        self._single.setdefault(second, []).append(worker)

    def add(self, workers: Ints, seconds: Ints) -> None:
        """Each worker is to ask in its second, all of which are still to come."""
        for part, second in _groups(seconds // _COARSE):
            if second <= self._reached:
                self._sort_in(workers[part], seconds[part])
            else:
                self._far.setdefault(second, []).append((workers[part], seconds[part]))

    def pop(self, second: int) -> Ints | None:
        """Those that ask in a second; to be called for each one, in order."""
        if second // _COARSE > self._reached:
            self._reached = second // _COARSE
            if far := self._far.pop(self._reached, None):
                self._sort_in(np.concatenate([who for who, _ in far]), np.concatenate([at for _, at in far]))
        near = self._near.pop(second, [])
        if single := self._single.pop(second, None):
            near.append(np.array(single))
        return np.concatenate(near) if near else None

    def _sort_in(self, workers: Ints, seconds: Ints) -> None:
        for part, second in _groups(seconds):
            self._near.setdefault(second, []).append(workers[part])


def _groups(keys: Ints) -> Iterator[tuple[Any, int]]:
    """The places of equal keys, and the key."""
    if len(keys) == 0:
        return
    if keys[0] == keys[-1] and (keys == keys[0]).all():
        yield slice(None), int(keys[0])
        return
    order = np.argsort(keys, kind="stable")
    bounds = np.flatnonzero(np.diff(keys[order], prepend=keys[order[0]] - 1, append=keys[order[-1]] + 1))
    for low, high in itertools.pairwise(bounds.tolist()):
        yield order[low:high], int(keys[order[low]])


class Herd:
    """How many were told to ask again and have not: what `grid.herds.Herds` counts, without their names.

    Also beyond the 200,000 that a grid's process counts: from 60,000 on they are spread over ten minutes.
    """

    def __init__(self, seconds: int) -> None:
        self._until = np.zeros(seconds + 2 * DAY, np.int64)
        self._now, self._count = 0, 0

    def add(self, seconds: Ints) -> None:
        """They were told to ask in these seconds."""
        np.add.at(self._until, seconds, 1)
        self._count += len(seconds)

    def add_one(self, second: int) -> None:
        """As `add`, for one worker."""
        self._until[second] += 1
        self._count += 1

    def count(self, now: int) -> int:
        """How many wait; `now` never falls."""
        self._count -= int(self._until[self._now : now].sum())
        self._now = now
        return self._count


@dataclasses.dataclass(slots=True)
class Given:
    """A worker's place in a cycle, as `admission` sees it."""

    worker: int
    cycle: int
    taken: int
    reported_at: int | None = None
    released: bool = False
    aside: bool = False
    grants: int = 1
    lapses: int = 0

    @property
    def reported(self) -> bool:
        return self.reported_at is not None


@dataclasses.dataclass(frozen=True, slots=True)
class Ended:
    """A cycle that has ended: its seconds, its places, most that were taken at once, and its reports."""

    opened: int
    ended: int
    places: int
    most_taken: int
    reported: int


@dataclasses.dataclass
class Outcome:
    """What came of it.

    Attributes:
        requests: of each second: authentications, cycle requests, downloads of model and Plan, reports.
        cycles: those that have ended.
        placed: the second in which each worker got its first place; -1 where it got none.
        late: reports that came after the end of their cycle.
        rejections: answers without a place.
    """

    requests: Ints
    placed: Ints
    cycles: list[Ended] = dataclasses.field(default_factory=list)
    late: int = 0
    rejections: int = 0
