"""What one of several processes does: it computes pieces of a cohort, and adds their reports up."""

import contextlib
import dataclasses
import pickle
import signal
from collections.abc import Sequence
from multiprocessing.connection import Connection

import torch

from fedplan.errors import FedplanError
from fedplan.federation import Sums, Task, Tensors, Update
from fedplan.federation.secure import Manifest
from fedplan.simulation.engines.memory import SharedMemory
from fedplan.simulation.engines.sequential import Sequential
from fedplan.simulation.states import ClientState
from fedplan.simulation.work import Experiment, Work
from fedplan.wire import Summary


@dataclasses.dataclass(frozen=True, slots=True)
class Common:
    """The part of a `Work` that is the same for all of its clients; see there."""

    task: Task
    cycle: int
    changing: Tensors
    staleness: int
    manifest: Manifest | None


@dataclasses.dataclass(frozen=True, slots=True)
class Piece:
    """Some clients of a `Work`.

    Attributes:
        number: of the piece.
        common: with this, the `Common` part is read from the memory that all processes share.
        clients: each with what it remembers, as `state_bytes` has it.
    """

    number: int
    common: bytes
    clients: Sequence[tuple[int, bytes]]


@dataclasses.dataclass(frozen=True, slots=True)
class Done:
    """What came of a piece.

    Attributes:
        number: of the piece.
        sent: client, bytes, what it remembers and why its report was refused, for each client.
        updates: the reports that were taken, if this process does not add them up.
        measured: what clients measured that do not train.
    """

    number: int
    sent: Sequence[tuple[int, int, bytes, str | None]]
    updates: Sequence[Update]
    measured: Sequence[Summary]


@dataclasses.dataclass(frozen=True, slots=True)
class HandOver:
    """Asks a process for the sum of what it has added up; it begins a new one."""


def state_bytes(state: ClientState) -> bytes:
    """What a client remembers, as bytes; none for nothing."""
    return b"" if state.is_empty else state.serialize()


def state_of(data: bytes) -> ClientState:
    """Reads what `state_bytes` wrote."""
    return ClientState.parse(data) if data else ClientState()


class Share:
    """What a process computes of a cohort, and has not handed over yet: the `Inbox` of its own engine."""

    def __init__(self, experiment: Experiment, model: SharedMemory) -> None:
        self._experiment = experiment
        self._strategy = experiment.deployment.strategy
        self._is_secure = experiment.deployment.server_config.secure_aggregation is not None
        self._model = model
        self._engine = Sequential()
        self._read: tuple[bytes, Common] | None = None
        self._sums: Sums | None = None
        self._updates: list[Update] = []
        self._measured: list[Summary] = []

    def answer(self, asked: Piece | HandOver) -> object:
        """What comes of a piece; or the sum of all since the last one was handed over, if there is one."""
        if isinstance(asked, Piece):
            return self._compute(asked)
        sums, self._sums = self._sums, None
        return sums

    def add(self, update: Update) -> None:
        """See `Inbox`: adds a report up, or keeps it for the process that needs all of them."""
        if not self._strategy.streams or self._is_secure:
            self._updates.append(update)
            return
        if self._sums is None:
            self._sums = self._strategy.nothing()
        self._strategy.add(self._sums, update)

    def measure(self, summary: Summary) -> None:
        """See `Inbox`."""
        self._measured.append(summary)

    def _compute(self, piece: Piece) -> Done:
        common, remembered = self._common(piece.common), dict(piece.clients)
        work = Work(
            self._experiment,
            common.task,
            common.cycle,
            common.changing,
            common.staleness,
            tuple(remembered),
            lambda client: state_of(remembered[client]),
            common.manifest,
        )
        sent = [
            (one.client, one.bytes, state_bytes(one.state), one.refusal)
            for one in self._engine.run(work, self)
        ]
        done = Done(piece.number, sent, self._updates, self._measured)
        self._updates, self._measured = [], []
        return done

    def _common(self, written: bytes) -> Common:
        if self._read is None or self._read[0] != written:
            self._read = written, self._model.read(written)
        return self._read[1]


def serve(
    connection: Connection,
    others: Sequence[Connection],
    experiment: Experiment,
    model: SharedMemory,
    memory: SharedMemory,
) -> None:
    """Answers until the process that started this one closes the connection, or ends.

    Args:
        connection: to that process.
        others: of that process to others; they are closed here, for while somebody has them open nobody sees
            that it has ended.
        experiment: what clients do.
        model: where the `Common` part of a work is.
        memory: for the arrays of answers.
    """
    signal.signal(
        signal.SIGINT, signal.SIG_IGN
    )  # Ctrl-C reaches all processes; who started this one handles it
    for other in others:
        other.close()
    torch.set_num_threads(1)
    share = Share(experiment, model)
    with contextlib.suppress(EOFError, ConnectionError):
        while True:
            asked = pickle.loads(connection.recv_bytes())  # nosec B301  # of who started this process
            try:
                answer = share.answer(asked)
            except Exception as error:  # noqa: BLE001  # whatever it is, it is raised again where the user is
                answer = portable(error)
            memory.send(connection, answer)


def portable(error: Exception) -> Exception:
    """The error; or what is known of it, if it cannot go to another process."""
    with contextlib.suppress(TypeError, AttributeError, pickle.PicklingError):
        if str(pickle.loads(pickle.dumps(error))) == str(error):  # nosec B301  # written here
            return error
    return FedplanError(f"{type(error).__name__}: {error}")
