"""What simulated clients remember from cycle to cycle: in memory as far as there is room, then on disk.

A state exists for a client that has reported, and for no other. On disk a file belongs to one client and one
cycle and is never written over, so a simulation that is killed finds the states of its last checkpoint.
"""

import contextlib
import dataclasses
import json
import tempfile
import zlib
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

from torch import Tensor

from fedplan.errors import CheckpointError, WireError
from fedplan.plan import from_torch, to_torch
from fedplan.wire import State

_HEAD_BYTES = 4


@dataclasses.dataclass(frozen=True, slots=True)
class ClientState:
    """What one client remembers.

    Attributes:
        private: its private tensors, by their places in the model.
        lost: what smaller report formats have not sent yet; see `DiffCompressor`.
        epoch: number of the last epoch of its loader, from 0; −1 before the first.
    """

    private: Mapping[int, Tensor] = dataclasses.field(default_factory=dict)
    lost: Sequence[Tensor] = ()
    epoch: int = -1

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to remember."""
        return not self.private and not self.lost and self.epoch < 0

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        return 500 + sum(tensor.nbytes for tensor in (*self.private.values(), *self.lost))

    def serialize(self) -> bytes:
        """The state as bytes, with a checksum."""
        places = sorted(self.private)
        tensors = [*(self.private[place] for place in places), *self.lost]
        body = State.of(map(from_torch, tensors)).serialize()
        told = {"private": places, "epoch": self.epoch, "crc": zlib.crc32(body)}
        head = json.dumps(told).encode()
        return len(head).to_bytes(_HEAD_BYTES, "little") + head + body

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            CheckpointError: it is something else, or damaged.
        """
        end = _HEAD_BYTES + int.from_bytes(data[:_HEAD_BYTES], "little")
        try:
            told = json.loads(data[_HEAD_BYTES:end])
            if zlib.crc32(data[end:]) != told["crc"]:
                raise ValueError("its checksum differs")
            tensors = [to_torch(tensor) for tensor in State.parse(data[end:]).tensors]
            places = told["private"]
            return cls(dict(zip(places, tensors, strict=False)), tensors[len(places) :], int(told["epoch"]))
        except (ValueError, KeyError, TypeError, WireError) as error:
            raise CheckpointError(f"the state of a simulated client is damaged: {error}") from error


NOTHING_REMEMBERED = ClientState()


class ClientStates:
    """The states of all clients that were seen.

    Args:
        memory: bytes of states that are held in memory.
        folder: where the others are, and all of them after `write`. Without one they are in a folder that
            goes with this object.
        cycle: the cycle after which the simulation goes on; what the folder has of later ones is deleted.
    """

    def __init__(self, memory: int, folder: Path | None = None, cycle: int = 0) -> None:
        self._room = memory
        self._kept = folder is not None
        self._folder = folder
        self._temporary: tempfile.TemporaryDirectory[str] | None = None
        self._cycle = cycle
        self._held: OrderedDict[int, ClientState] = OrderedDict()
        self._unwritten: set[int] = set()
        self._files: dict[int, Path] = {}
        self._superseded: list[Path] = []
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._find(folder, cycle)

    def get(self, client: int) -> ClientState:
        """What a client remembers: nothing, if it was never seen.

        Raises:
            CheckpointError: its file is damaged or missing.
        """
        found = self._held.get(client)
        if found is not None:
            self._held.move_to_end(client)
            return found
        path = self._files.get(client)
        if path is None:
            return NOTHING_REMEMBERED
        try:
            return ClientState.parse(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"the state of client {client} cannot be read: {error}") from error

    def put(self, client: int, state: ClientState) -> None:
        """Keeps a state in place of an earlier one."""
        before = self._held.pop(client, None)
        self._room += 0 if before is None else before.nbytes
        if state.is_empty and client not in self._files:
            self._unwritten.discard(client)
            return
        self._held[client] = state
        self._unwritten.add(client)
        self._room -= state.nbytes
        while self._room < 0 and self._held:
            self._drop()

    def begin(self, cycle: int) -> None:
        """What is put from now on belongs to a cycle."""
        self._cycle = cycle

    def write(self) -> None:
        """Brings all states into the folder; those of before stay there until `settle`."""
        for client in sorted(self._unwritten):
            self._write(client)

    def settle(self) -> None:
        """What was written is valid from now on: older states are deleted."""
        for path in self._superseded:
            path.unlink(missing_ok=True)
        self._superseded.clear()

    def close(self) -> None:
        """Ends the use of the folder; one that nobody named goes."""
        if self._temporary is not None:
            self._temporary.cleanup()

    def __len__(self) -> int:
        return len(self._held.keys() | self._files.keys())

    def _drop(self) -> None:
        """Makes room by what was used longest ago."""
        client = next(iter(self._held))
        if client in self._unwritten:
            self._write(client)
        self._room += self._held.pop(client).nbytes

    def _write(self, client: int) -> None:
        path = self._place() / f"{client}-{self._cycle}"
        path.write_bytes(self._held[client].serialize())
        self._unwritten.discard(client)
        before = self._files.get(client)
        if before is not None and before != path:
            if self._kept:
                self._superseded.append(before)
            else:
                before.unlink()
        self._files[client] = path

    def _place(self) -> Path:
        if self._folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="fedplan-clients-")
            self._folder = Path(self._temporary.name)
        return self._folder

    def _find(self, folder: Path, cycle: int) -> None:
        """Finds the states as they were after a cycle."""
        for client, at, path in _files_in(folder):
            known = self._files.get(client)
            if at > cycle:
                path.unlink()
            elif known is None or int(known.name.partition("-")[2]) < at:
                if known is not None:
                    known.unlink()
                self._files[client] = path
            else:
                path.unlink()


def _files_in(folder: Path) -> Iterator[tuple[int, int, Path]]:
    for path in list(folder.iterdir()):
        client, _, cycle = path.name.partition("-")
        with contextlib.suppress(ValueError):  # another file: it is not ours
            yield int(client), int(cycle), path
