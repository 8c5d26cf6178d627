"""Engines by their names, and the one that chooses."""

import dataclasses
import logging
from collections.abc import Iterator

from fedplan.client.counts import positive_integer
from fedplan.errors import CheckpointError, ConfigError
from fedplan.federation import Task
from fedplan.simulation.engines.batched.batched import Batched, computed, one_by_one
from fedplan.simulation.engines.batched.batched import why_not as why_not_batched
from fedplan.simulation.engines.batched.trial import Trial, tried
from fedplan.simulation.engines.engine import Engine
from fedplan.simulation.engines.processes import Processes, cores, why_not
from fedplan.simulation.engines.sequential import Sequential
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.participation import Participants
from fedplan.simulation.work import Experiment, Sent, Work
from fedplan.text import did_you_mean

_log = logging.getLogger("fedplan.simulation")

ENGINES = ("auto", "batched", "sequential", "processes")
"""What `simulate` takes."""

_WORTH_SECONDS = 0.05
"""A cycle that takes so long in one process is computed faster by several."""

_GAIN = 0.9
"""Side by side takes less than this share of the time, or is not chosen: last bits change by it."""


def engine_of(name: str, workers: int | None, experiment: Experiment, kept: int | None = None) -> Engine:
    """The engine that a user names.

    Args:
        name: one of `ENGINES`.
        workers: how many processes; None for as many as there are cores.
        experiment: what it will compute.
        kept: `Engine.at_once` of a run that is gone on with; None for a new one.

    Raises:
        ConfigError: there is no such engine, or it cannot be used here.
        CheckpointError: the run was begun by an engine of other bits.
    """
    if name not in ENGINES:
        raise ConfigError(
            f"there is no engine {name!r}; there are {', '.join(ENGINES)}{did_you_mean(str(name), ENGINES)}"
        )
    count = cores() if workers is None else positive_integer(workers, "workers")
    if kept is not None and name != "auto" and (name == "batched") != (kept > 0):
        began = f"computed {kept} clients side by side" if kept else "computed each client alone"
        raise CheckpointError(
            f"the run in the folder of the checkpoint {began}, and with the engine {name!r} the last bits of "
            "its results would be others. Go on with engine='auto', or name another folder to begin anew"
        )
    deployment = experiment.deployment
    if name == "auto" and deployment.plans[deployment.training].dp is not None:
        return Sequential()  # what is tried takes batches apart, and Poisson batches have a mask
    if name == "batched" or (name == "auto" and kept):
        return Batched(experiment, kept)
    if name == "processes":
        return Processes(experiment, count)
    return Sequential() if name == "sequential" else Choosing(experiment, count, may_batch=kept is None)


class Choosing:
    """Tries on the first clients what is fastest, and goes on with that.

    What is tried counts for nothing; but the clients' data, which may be made when it is asked for, is drawn
    only once.

    Args:
        experiment: what clients do.
        workers: how many processes there may be.
        may_batch: whether clients may be computed side by side, in other bits.
    """

    def __init__(self, experiment: Experiment, workers: int, *, may_batch: bool) -> None:
        self._experiment = experiment
        self._workers = workers
        self._may_batch = may_batch
        self._engine: Engine | None = None

    @property
    def name(self) -> str:
        """That of the engine that was chosen."""
        return "auto" if self._engine is None else self._engine.name

    @property
    def at_once(self) -> int | None:
        """See `Engine`."""
        return None if self._engine is None else self._engine.at_once

    def run(self, work: Work, gathered: Gathered) -> Iterator[Sent]:
        """See `Engine`."""
        if self._engine is not None:
            yield from self._engine.run(work, gathered)
        elif work.task is Task.EVALUATION:
            yield from Sequential().run(work, gathered)
        else:
            yield from self._first(work, gathered)

    def close(self) -> None:
        """See `Engine`."""
        if self._engine is not None:
            self._engine.close()

    def _first(self, work: Work, gathered: Gathered) -> Iterator[Sent]:
        """Chooses, and computes the first clients that train."""
        participants, clients = Participants(work), iter(work.clients)
        reason = why_not_batched(self._experiment) if self._may_batch else "the run was begun otherwise"
        batched = Batched(self._experiment) if reason is None else None
        trial = tried(batched or reason or "", participants, clients)
        self._engine = self._fastest(trial, batched, len(work.clients))
        compute = batched.together if batched is not None and batched is self._engine else one_by_one
        yield from computed(participants, trial.lineups, compute, gathered)
        if rest := tuple(clients):
            yield from self._engine.run(dataclasses.replace(work, clients=rest), gathered)

    def _fastest(self, trial: Trial, batched: Batched | None, clients: int) -> Engine:
        """The engine by which a cycle of so many clients takes the least time."""
        workers = min(self._workers, clients)
        alone, together = clients * (trial.data + trial.alone), None
        took = [f"sequential {alone:.2g} s"]
        if trial.together is not None and batched is not None:
            together = clients * (trial.data + trial.together)
            took.append(f"batched {together:.2g} s")
        else:
            took.append(f"not batched ({trial.reason})")
        several = None
        reason = why_not(self._experiment) or (None if workers > 1 else "there is one core, or one client")
        if reason is None and alone >= _WORTH_SECONDS:
            several = alone / workers
            took.append(f"{workers} processes {several:.2g} s")
        elif reason is not None:
            took.append(f"no processes ({reason})")
        told = f"a cycle takes about: {', '.join(took)}"
        if batched is not None and together is not None and together < _GAIN * (several or alone):
            _log.info("engine: batched, %d clients at once, for %s", batched.at_once or 1, told)
            return batched
        if several is not None:
            _log.info("engine: %d processes, for %s", workers, told)
            return Processes(self._experiment, workers)
        _log.info("engine: sequential, for %s", told)
        return Sequential()
