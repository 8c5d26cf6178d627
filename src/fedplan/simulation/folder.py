"""The folder of a run: a simulation that is killed and started again goes on from it, to the same bits.

A checkpoint is one file with all that a cycle leaves behind, but for the states of clients, which are files
of their own (see `ClientStates`), and the history, to which a line is added for each cycle. The file is
replaced last, so what belongs to a cycle that it does not know of is not there for whoever goes on.
"""

import json
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from fedplan.errors import AggregationError, CheckpointError, WireError
from fedplan.federation import ServerState
from fedplan.simulation.clock import Clock
from fedplan.simulation.history import SimulatedRow
from fedplan.simulation.rounds import RunState
from fedplan.wire import State

_FORMAT = 2


class Folder:
    """The folder of one run. It belongs to this process for as long as the block takes.

    Args:
        path: where it is; it is made if it is not there.
        identity: what makes a run another one, by name; values of JSON.
    """

    def __init__(self, path: str | os.PathLike[str], identity: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._identity = {"format": _FORMAT, **json.loads(json.dumps(identity))}
        self._lock = FileLock(self._path / "lock", timeout=0, thread_local=False)
        self._lines = 0
        self.at_once: int | None = None
        """See `Engine`: that of the run, once `read` has found one."""

    def __enter__(self) -> Self:
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            self._lock.acquire()
        except Timeout:
            raise CheckpointError(
                f"another simulation is using the folder {self._path}: wait for its end, or name another "
                "folder"
            ) from None
        except OSError as error:
            raise CheckpointError(f"the folder {self._path} cannot be used: {error}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.release()

    @property
    def clients(self) -> Path:
        """Where the states of clients are."""
        return self._path / "clients"

    def read(self, clock: Clock) -> RunState | None:
        """How far the run has come; None when it begins.

        Args:
            clock: is set to the time of then.

        Raises:
            CheckpointError: the folder is another run's, or damaged, or cannot be used.
        """
        if not self._checkpoint.exists():
            self._forget_history()
            return None
        try:
            with zipfile.ZipFile(self._checkpoint) as file:
                told = json.loads(file.read("run.json"))
                self._check(told["identity"])
                models = {
                    number: State.parse(file.read(f"model-{number}")).tensors for number in told["models"]
                }
                remembered = ServerState.parse(file.read("strategy"))
            clock.restore(told["clock"])
            rows = self._rows(told["cycles"])
            self.at_once = told["at_once"]
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise self._damaged(error) from error
        except (AggregationError, WireError) as error:
            raise self._damaged(error) from error
        scales = told.get("exponents")
        return RunState(told["checkpoint"], models, remembered, rows, scales and tuple(scales))

    def write(self, progress: RunState, clock: Clock, at_once: int | None) -> None:
        """Keeps what a cycle leaves behind, in place of what the one before did.

        Args:
            progress: how far the run is.
            clock: its time.
            at_once: see `Engine`.

        Raises:
            CheckpointError: the folder cannot be written to.
        """
        told = {
            "identity": self._identity,
            "cycles": len(progress.rows),
            "checkpoint": progress.checkpoint,
            "models": list(progress.models),
            "clock": clock.to_json(),
            "at_once": at_once,
            "exponents": progress.exponents,
        }
        try:
            with open(self._history, "a") as history:
                for row in progress.rows[self._lines :]:
                    history.write(row.model_dump_json() + "\n")
            self._lines = len(progress.rows)
            following = self._checkpoint.with_suffix(".next")
            with zipfile.ZipFile(following, "w") as file:
                file.writestr("run.json", json.dumps(told))
                file.writestr("strategy", progress.remembered.serialize())
                for number, model in progress.models.items():
                    file.writestr(f"model-{number}", State.of(model).serialize())
            os.replace(following, self._checkpoint)
        except OSError as error:
            raise CheckpointError(f"the folder {self._path} cannot be written to: {error}") from error

    @property
    def _checkpoint(self) -> Path:
        return self._path / "checkpoint.zip"

    @property
    def _history(self) -> Path:
        return self._path / "history.jsonl"

    def _check(self, found: Mapping[str, Any]) -> None:
        """Refuses a run that is another one: going on with it would give results of neither."""
        if found == self._identity:
            return
        other = [name for name in {**self._identity, **found} if found.get(name) != self._identity.get(name)]
        raise CheckpointError(
            f"the folder {self._path} holds the run of another simulation: it differs in its "
            f"{', '.join(other)}. Name another folder, or delete this one to begin anew"
        )

    def _rows(self, count: int) -> tuple[SimulatedRow, ...]:
        """The first lines of the history; what was written after them is of a cycle that did not end."""
        lines = self._history.read_text().splitlines(keepends=True)[:count]
        rows = tuple(SimulatedRow.model_validate_json(line) for line in lines)
        if len(rows) != count:
            raise ValueError(f"its history has {len(rows)} cycles of {count}")
        following = self._history.with_suffix(".next")
        following.write_text("".join(lines))
        os.replace(following, self._history)
        self._lines = count
        return rows

    def _forget_history(self) -> None:
        """Removes what was written of a first cycle that did not end.

        Raises:
            CheckpointError: it cannot be removed.
        """
        try:
            self._history.unlink(missing_ok=True)
        except OSError as error:
            raise CheckpointError(f"the folder {self._path} cannot be used: {error}") from error

    def _damaged(self, error: Exception) -> CheckpointError:
        why = " ".join(str(error).split())
        return CheckpointError(
            f"the run in the folder {self._path} is damaged ({why}). Restore it from a copy, or delete it to "
            "begin anew"
        )
