"""The demo's federation: a grid, a hosted model, workers, and what they measure of the model."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from fedplan.cli.demo.digits import Part, Samples
from fedplan.cli.demo.network import CLIENT_CONFIG
from fedplan.cli.demo.processes import Process, Processes
from fedplan.client import ModelCentricFLClient
from fedplan.client.owner.waiting import Goal, outlook
from fedplan.errors import FedplanError, GridConnectionError
from fedplan.plan import Plan

_NAME, _VERSION = "digits", "1.0.0"
_POLL_SECONDS = 0.2
_MEASURED = Goal(checkpoint=None, evaluated=True)


@dataclasses.dataclass(frozen=True)
class Moment:
    """What is seen of the federation at one time.

    Attributes:
        cycle: number of the cycle that is under way, from 1.
        reports: how many workers have reported in it.
        accuracies: of each checkpoint that workers have measured, the first one as it was hosted.
        waits_for: what the grid waits for, in words.
    """

    cycle: int
    reports: int
    accuracies: Sequence[float]
    waits_for: str


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
        self, model: nn.Module, plans: Mapping[str, Plan], parts: Sequence[Part], *, cycles: int, seed: int
    ) -> Iterator[Moment]:
        """Hosts the model, starts a worker for each part of the data, and follows the cycles.

        It takes as long as it takes: as long as all processes live, it waits.

        Raises:
            FedplanError: a process failed.
        """
        url = self._grid.first_line()
        with ModelCentricFLClient(url) as owner:
            owner.host_federated_training(
                model,
                plans,
                client_config={"name": _NAME, "version": _VERSION, **CLIENT_CONFIG},
                server_config=_every_worker_each_cycle(len(parts), cycles),
            )
            for number, part in enumerate(parts, 1):
                self._start_worker(number, part, url, seed)
            yield from self._follow(owner)

    def _start_worker(self, number: int, part: Part, url: str, seed: int) -> None:
        name = f"worker-{number}"
        folder = self._processes.folder
        data = _write(folder / f"{name}.npz", part.training)
        evaluation = _write(folder / f"{name}-evaluation.npz", part.evaluation)
        where = ("--url", url.replace("http:", "ws:"), "--model", _NAME, "--version", _VERSION)
        files = ("--data", data, "--evaluation-data", evaluation)
        self._workers.append(
            self._processes.start(name, "worker", *where, *files, "--seed", str(seed + number))
        )

    def _follow(self, owner: ModelCentricFLClient) -> Iterator[Moment]:
        while True:
            self._check_processes()
            try:
                (model,) = owner.status(_NAME).models
                history = owner.history(_NAME, _VERSION)
            except GridConnectionError:
                self._check_processes()  # says better what has happened
                raise
            if model.last_failure is not None:
                raise FedplanError(f"a cycle failed: {model.last_failure}")
            measured = [row.metrics["accuracy"].value for row in history if "accuracy" in row.metrics]
            yield Moment(model.cycle.number, model.cycle.reported, measured, outlook(model))
            if _MEASURED.reached(model):
                return
            time.sleep(_POLL_SECONDS)

    def _check_processes(self) -> None:
        self._grid.check(alive=True)
        for worker in self._workers:
            worker.check(alive=False)


def _write(path: Path, samples: Samples) -> str:
    np.savez(path, x=samples.images, y=samples.digits)
    return str(path)


def _every_worker_each_cycle(workers: int, cycles: int) -> dict[str, Any]:
    return {
        "max_workers": workers,
        "min_diffs": workers,
        "max_diffs": workers,
        "num_cycles": cycles,
        "evaluation": {"length": 86_400},  # it ends when all have reported, on slow machines too
    }
