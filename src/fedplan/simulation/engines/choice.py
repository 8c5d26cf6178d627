"""Engines by their names, and the one that chooses."""

import dataclasses
import logging
import statistics
import time
from collections.abc import Iterator

from fedplan.client.counts import positive_integer
from fedplan.errors import ConfigError
from fedplan.simulation.engines.engine import Engine
from fedplan.simulation.engines.processes import Processes, cores, why_not
from fedplan.simulation.engines.sequential import Sequential
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.work import Experiment, Sent, Work

_log = logging.getLogger("fedplan.simulation")

ENGINES = ("auto", "sequential", "processes")
"""What `simulate` takes."""

_FEW, _MANY, _SECONDS = 5, 50, 0.02
"""The engine is chosen when so many clients took so long."""

_WORTH_SECONDS = 0.05
"""A cycle that takes so long in one process is computed faster by several."""


def engine_of(name: str, workers: int | None, experiment: Experiment) -> Engine:
    """The engine that a user names.

    Args:
        name: one of `ENGINES`.
        workers: how many processes; None for as many as there are cores.
        experiment: what it will compute.

    Raises:
        ConfigError: there is no such engine, or it cannot be used here.
    """
    if name not in ENGINES:
        raise ConfigError(f"there is no engine {name!r}; there are {', '.join(ENGINES)}")
    count = cores() if workers is None else positive_integer(workers, "workers")
    if name == "processes":
        return Processes(experiment, count)
    if name == "sequential" or count == 1:
        return Sequential()
    return Choosing(experiment, count)


class Choosing:
    """Computes some clients one after the other, and goes on with several processes if they take long.

    Both give the same bits, so what was computed counts, and nothing is computed twice.
    """

    def __init__(self, experiment: Experiment, workers: int) -> None:
        """See `Processes`."""
        self._experiment = experiment
        self._workers = workers
        self._engine: Engine = Sequential()
        self._seconds: list[float] = []  # of each client so far
        self._chosen = False

    @property
    def name(self) -> str:
        """The engine of now."""
        return self._engine.name

    def run(self, work: Work, gathered: Gathered) -> Iterator[Sent]:
        """See `Engine`."""
        done = 0
        if not self._chosen:
            started = time.perf_counter()
            for sent in self._engine.run(work, gathered):
                self._seconds.append(time.perf_counter() - started)
                done += 1
                yield sent
                self._choose(len(work.clients))
                if self._chosen:
                    break
                started = time.perf_counter()
        if done < len(work.clients):
            yield from self._engine.run(dataclasses.replace(work, clients=work.clients[done:]), gathered)

    def close(self) -> None:
        """See `Engine`."""
        self._engine.close()

    def _choose(self, clients: int) -> None:
        """Decides, if enough is known."""
        known = len(self._seconds)
        if known < _FEW or sum(self._seconds) < _SECONDS:
            return
        # at first clients take longer, for Plans are compiled for their shapes: then the fastest one tells
        each = statistics.median(self._seconds) if known >= _MANY else min(self._seconds)
        is_worth_it = clients > 1 and clients * each >= _WORTH_SECONDS
        if not is_worth_it and known < _MANY:
            return
        self._chosen = True
        reason = why_not(self._experiment)
        took = f"a cycle takes {clients * each:.2g} s in one"
        if reason is None and is_worth_it:
            workers = min(self._workers, clients)
            self._engine = Processes(self._experiment, workers)
            _log.info("engine: %d processes, for %s", workers, took)
        else:
            _log.info("engine: sequential, for %s", reason or took)
