"""Several processes, each of which computes some of the clients in one thread, and adds their reports up.

They are forked, so they have the clients' data without a copy. A round's model goes to all of them through
memory that they share, and their sums come back through such memory. What a client reports does not depend on
who computes it, and sums do not depend on their order: the results are those of the sequential engine.
"""

import copy
import math
import multiprocessing
import multiprocessing.connection
import os
import pickle
import sys
import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any

from fedplan.errors import ConfigError, FedplanError
from fedplan.federation import BYTES_PER_ELEMENT
from fedplan.simulation.engines.child import Common, Done, HandOver, Piece, serve, state_bytes, state_of
from fedplan.simulation.engines.memory import SharedMemory
from fedplan.simulation.engines.sequential import take
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.work import Experiment, Report, Sent, Work

_PIECES = 8
"""Into so many pieces each process's share of a cohort is cut, so that all end at about the same time."""

_PATIENCE_SECONDS = 0.5

_MOST_OF_A_SUM = 5 * BYTES_PER_ELEMENT
"""Bytes for each number: of two sums, one for updates that tell no weight, each twice as large when there are
more than 4,096 updates, and of the bounds of running statistics. What is not written to takes no memory."""

_SMALL = 1 << 16
"""Bytes for what is small beside a model's tensors."""


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def why_not(experiment: Experiment) -> str | None:
    """Why an experiment cannot be computed by several processes; None when it can."""
    if "fork" not in multiprocessing.get_all_start_methods() or sys.platform == "darwin":
        return "processes that share the memory of this one (fork) are not to be had on this system"
    if experiment.device.type != "cpu":
        return f"processes are for the processor's cores, and the device is '{experiment.device}'"
    return None


class Processes:
    """See `Engine`.

    Args:
        experiment: what clients do; the processes have it as it is now.
        workers: how many processes.

    Raises:
        ConfigError: they cannot be had.
    """

    name = "processes"
    at_once = 0

    def __init__(self, experiment: Experiment, workers: int) -> None:
        reason = why_not(experiment)
        if reason is not None:
            raise ConfigError(f"the engine 'processes' cannot be used: {reason}. Take engine='sequential'")
        layout = experiment.deployment.strategy.setting.changing_layout
        elements = sum(math.prod(shape) for shape, _ in layout)
        self._model = SharedMemory(8 * elements + _SMALL)
        self._workers: list[_Worker] = []
        for _ in range(workers):
            others = [worker.connection for worker in self._workers]
            memory = SharedMemory(_MOST_OF_A_SUM * elements + _SMALL)
            self._workers.append(_Worker(experiment, self._model, memory, others))

    def run(self, work: Work, gathered: Gathered) -> Iterator[Sent]:
        """See `Engine`."""
        early: dict[int, Done] = {}
        wanted = 0
        for done in self._pieces(work):
            early[done.number] = (
                done if done.number == wanted else copy.deepcopy(done)
            )  # its memory is reused
            while wanted in early:
                yield from _taken(early.pop(wanted), gathered)
                wanted += 1
        for worker in self._workers:
            worker.ask(HandOver())
        for worker in self._workers:
            sums = worker.answer()
            if sums is not None:
                gathered.merge(sums)

    def close(self) -> None:
        """Ends the processes."""
        for worker in self._workers:
            worker.close()
        self._workers.clear()

    def _pieces(self, work: Work) -> Iterator[Done]:
        """Gives each process a piece, and another one when it has done it, until all are done."""
        common = self._model.write(
            Common(work.task, work.cycle, work.changing, work.staleness, work.manifest)
        )
        size = max(1, len(work.clients) // (_PIECES * len(self._workers)))
        left = deque(enumerate(range(0, len(work.clients), size)))

        def next_piece() -> Piece:
            number, start = left.popleft()
            clients = work.clients[start : start + size]
            return Piece(number, common, [(client, state_bytes(work.state_of(client))) for client in clients])

        busy: dict[Any, _Worker] = {}
        for worker in self._workers[: len(left)]:
            worker.ask(next_piece())
            busy[worker.connection] = worker
        while busy:
            for ready in multiprocessing.connection.wait(list(busy)):
                worker = busy[ready]
                yield worker.answer()
                if left:
                    worker.ask(next_piece())
                else:
                    del busy[ready]


class _Worker:
    """One process, as the one that started it sees it."""

    def __init__(
        self, experiment: Experiment, model: SharedMemory, memory: SharedMemory, others: Sequence[Connection]
    ) -> None:
        self._memory = memory
        self.connection, theirs = multiprocessing.Pipe()
        self._process = multiprocessing.get_context("fork").Process(
            target=serve,
            args=(theirs, [self.connection, *others], experiment, model, memory),
            name="fedplan simulation",
        )
        with warnings.catch_warnings():
            # to fork beside other threads is deprecated, for a child may need their locks; this one does not
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        theirs.close()

    def ask(self, question: Piece | HandOver) -> None:
        """Has the process do something.

        Raises:
            FedplanError: it has ended.
        """
        try:
            self.connection.send_bytes(pickle.dumps(question))
        except ConnectionError as error:
            raise self._ended() from error

    def answer(self) -> Any:
        """What the process has made. Arrays in it are good until it is asked again.

        Raises:
            FedplanError: it failed, or has ended.
        """
        try:
            made = self._memory.receive(self.connection)
        except (EOFError, ConnectionError) as error:
            raise self._ended() from error
        if isinstance(made, BaseException):
            raise made
        return made

    def close(self) -> None:
        """Ends the process: it ends by itself, unless it is busy."""
        self.connection.close()
        self._process.join(_PATIENCE_SECONDS)
        self._process.terminate()
        self._process.join()

    def _ended(self) -> FedplanError:
        self._process.join()
        return FedplanError(
            f"a process of the simulation has ended by itself (exit code {self._process.exitcode}). Was "
            "there too little memory? Fewer workers need less"
        )


def _taken(done: Done, gathered: Gathered) -> Iterator[Sent]:
    """Adds what a process could not add up itself, and says what was sent."""
    for summary in done.measured:
        gathered.measure(summary)
    updates = iter(done.updates)
    for client, size, state, refusal in done.sent:
        update = next(updates, None) if refusal is None else None
        yield take(Report(client, update, size, state_of(state), refusal), gathered)
