"""The demo's federation: a grid, a hosted model, workers, and what becomes of the model."""

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np

from fedplan.cli.demo.digits import Samples
from fedplan.cli.demo.network import CLIENT_CONFIG
from fedplan.cli.demo.processes import Process, Processes
from fedplan.client import ModelCentricFLClient, SyftModel
from fedplan.errors import FedplanError, GridConnectionError
from fedplan.plan import Plan
from fedplan.wire import State
from fedplan.wire.messages import ModelStatus

_NAME, _VERSION = "digits", "1.0.0"
_POLL_SECONDS = 0.2
_PATIENCE_SECONDS = 60.0
"""How long the cycles may stand still before the demo gives up."""


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is seen of the federation at one time.

    Attributes:
        cycle: number of the cycle that is under way, from 1.
        reports: how many workers have reported in it.
        checkpoints: models that have come to be since the moment before, oldest first.
    """

    cycle: int
    reports: int
    checkpoints: Sequence[SyftModel]


class Federation:
    """A grid and its workers, as processes."""

    def __init__(self, grid: Process, processes: Processes) -> None:
        """A federation without workers.

        Args:
            grid: the process of a grid that may still be starting.
            processes: what starts the workers.
        """
        self._grid = grid
        self._processes = processes
        self._workers: list[Process] = []

    def run(
        self, model: State, plan: Plan, parts: Sequence[Samples], *, cycles: int, seed: int
    ) -> Iterator[Moment]:
        """Hosts the model, starts a worker for each part of the data, and follows the cycles.

        Raises:
            FedplanError: a process failed, or nothing happens any more.
        """
        url = self._grid.first_line()
        with ModelCentricFLClient(url) as owner:
            owner.host_federated_training(
                model,
                {"training_plan": plan},
                client_config={"name": _NAME, "version": _VERSION, **CLIENT_CONFIG},
                server_config=_every_worker_each_cycle(len(parts), cycles),
            )
            for number, part in enumerate(parts, 1):
                self._start_worker(number, part, url, seed)
            yield from self._follow(owner)
        for worker in self._workers:
            worker.wait(_PATIENCE_SECONDS)

    def _start_worker(self, number: int, part: Samples, url: str, seed: int) -> None:
        name = f"worker-{number}"
        data = self._processes.folder / f"{name}.npz"
        np.savez(data, x=part.images, y=part.digits)
        where = ("--url", url.replace("http:", "ws:"), "--model", _NAME, "--version", _VERSION)
        worker = self._processes.start(
            name, "worker", *where, "--data", str(data), "--seed", str(seed + number)
        )
        self._workers.append(worker)

    def _follow(self, owner: ModelCentricFLClient) -> Iterator[Moment]:
        latest, before, since = 1, None, time.monotonic()
        while True:
            self._check_processes()
            try:
                model, new = _look(owner, latest)
            except GridConnectionError:
                self._check_processes()  # says better what has happened
                raise
            latest += len(new)
            yield Moment(model.cycle.number, model.cycle.reported, new)
            if model.phase == "finished":
                return
            now = (model.cycle.number, model.cycle.reported)
            if now != before:
                before, since = now, time.monotonic()
            if time.monotonic() - since > _PATIENCE_SECONDS:
                raise FedplanError(
                    f"nothing has happened in cycle {now[0]} for {_PATIENCE_SECONDS:.0f} seconds"
                )
            time.sleep(_POLL_SECONDS)

    def _check_processes(self) -> None:
        self._grid.check(alive=True)
        for worker in self._workers:
            worker.check(alive=False)


def _look(owner: ModelCentricFLClient, latest: int) -> tuple[ModelStatus, list[SyftModel]]:
    """How the model is doing, and its checkpoints after the one numbered `latest`."""
    (model,) = owner.status(_NAME).models
    if model.last_failure is not None:
        raise FedplanError(f"a cycle failed: {model.last_failure}")
    numbers = range(latest + 1, model.checkpoints[0].number + 1)
    return model, [owner.retrieve_model(_NAME, _VERSION, number) for number in numbers]


def _every_worker_each_cycle(workers: int, cycles: int) -> dict[str, int]:
    return {"max_workers": workers, "min_diffs": workers, "max_diffs": workers, "num_cycles": cycles}
