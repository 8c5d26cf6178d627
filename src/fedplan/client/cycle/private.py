"""What a worker keeps for itself from cycle to cycle: a model's private tensors, in memory or in a folder.

The state is that of the last cycle whose report the grid took. It is written to the disk before a report is
sent and gets its name afterwards, so a report is not sent if the state could not be kept; of a cycle that was
not reported, or not known to be, nothing is kept.
"""

import base64
import binascii
import contextlib
import dataclasses
import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from fedplan.client.model import SyftModel
from fedplan.errors import PrivateStateError, WireError
from fedplan.plan import from_torch, to_torch
from fedplan.wire import State

_log = logging.getLogger("fedplan.client")

_FORMAT = 1

_AWAY = "Restore it from a copy, or move it away to begin with the hosted values. Nothing was written."


@dataclasses.dataclass(frozen=True, slots=True)
class Whose:
    """Whom a private state belongs to.

    The worker's id is no part of it: the grid gives out another one at each authentication. The subject of a
    token stays. Where no token names anybody, the folder alone says who the worker is.

    Attributes:
        grid: the grid's URL.
        model: name of the FL process.
        version: its version.
        identity: the subject (the `sub` claim) of the worker's token; None without.
    """

    grid: str
    model: str
    version: str
    identity: str | None

    @property
    def file_name(self) -> str:
        """A name that people can tell from others, and that is another one for everybody else."""
        digest = hashlib.sha256(json.dumps(dataclasses.astuple(self)).encode()).hexdigest()[:16]
        words = (re.sub(r"[^\w.-]+", "_", text)[:40].strip(".") for text in (self.model, self.version))
        return f"{'-'.join(words)}-{digest}.json"


class PrivateState:
    """The private tensors of one model, as the worker's last reported cycle left them."""

    def __init__(self, whose: Whose, folder: str | os.PathLike[str] | None = None) -> None:
        """A state; nothing is read yet.

        Args:
            whose: whom it belongs to.
            folder: where it is kept. Without one it lasts as long as this object.
        """
        self._whose = whose
        self._path = None if folder is None else Path(folder) / whose.file_name
        self._lock: FileLock | None = None
        self._kept: dict[int, Tensor] | None = None
        self._next: dict[int, Tensor] = {}
        self._warned = False

    def open(self) -> None:
        """Reads what the folder has; nobody else can use it from then on, until `close`.

        Raises:
            PrivateStateError: it cannot be read, is damaged, or another worker uses it.
        """
        if self._path is None or self._lock is not None:
            return
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = FileLock(f"{self._path}.lock", timeout=0, thread_local=False)
            with contextlib.ExitStack() as failed:
                lock.acquire()
                failed.callback(lock.release)
                if self._unsettled.exists():
                    _log.warning(
                        "the last run ended while its report was on the way, so the private state in %s is "
                        "that of the cycle before",
                        self._path,
                    )
                    self._unsettled.unlink()
                self._kept = _read(self._path, self._whose) if self._path.exists() else None
                failed.pop_all()
            self._lock = lock  # what could not be read is not open: who tries again must hear it again
        except Timeout:
            raise PrivateStateError(
                f"another worker is using the private state in {self._path}: each worker needs a folder of "
                "its own, for each has its own tensors"
            ) from None
        except OSError as error:
            raise PrivateStateError(f"the private state in {self._path} cannot be read: {error}") from error

    def close(self) -> None:
        """Lets others use the folder."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def fill(self, model: SyftModel, private: Sequence[int]) -> SyftModel:
        """The model from which the worker trains: the grid's, with the worker's own tensors in it.

        Args:
            model: as it was received.
            private: the places of the private tensors.

        Raises:
            PrivateStateError: what was kept is of another model.
        """
        if not private:
            return model
        if self._path is None and not self._warned:
            self._warned = True
            _log.warning(
                "%d tensors of '%s' %s are private, and are lost when this job ends: pass state=FOLDER "
                "(`fedplan worker --state FOLDER`) to go on with them in the next run",
                len(private),
                self._whose.model,
                self._whose.version,
            )
        if self._kept is None:
            if self._path is not None:
                _log.info("there is no private state in %s yet: it begins with the hosted values", self._path)
            return model.with_private({}, private)
        hosted = {place: model.params[place] for place in private}
        if _forms(self._kept) != _forms(hosted):
            raise PrivateStateError(
                f"the private state in {self._path} is of another model: it has {_listed(self._kept)}, and "
                f"'{self._whose.model}' {self._whose.version} has {_listed(hosted)}. Was a model of this "
                f"name hosted anew? {_AWAY}"
            )
        return model.with_private(self._kept, private)

    def prepare(self, tensors: Mapping[int, Tensor]) -> None:
        """Writes what is to be kept if the cycle's report is taken.

        Raises:
            PrivateStateError: it cannot be written.
        """
        self._next = {place: tensor.detach().cpu().clone() for place, tensor in tensors.items()}
        if self._path is not None and self._next:
            try:
                _write(self._unsettled, _encoded(self._whose, self._next))
            except OSError as error:
                raise PrivateStateError(
                    f"the private state cannot be written to {self._path.parent}, so nothing was reported: "
                    f"{error}"
                ) from error

    def settle(self, taken: bool) -> None:
        """Keeps what was prepared if the report was taken, and else what was there before.

        Raises:
            PrivateStateError: the folder cannot be written to any more.
        """
        if not self._next:
            return
        if self._path is not None and taken:
            try:
                os.replace(self._unsettled, self._path)
                _sync_names(self._path.parent)
            except OSError as error:
                raise PrivateStateError(
                    f"the cycle was reported, but its private state was not kept in {self._path}: {error}"
                ) from error
        elif self._path is not None:
            with contextlib.suppress(OSError):  # whoever opens it again takes it away
                self._unsettled.unlink()
        self._kept = self._next if taken else self._kept
        self._next = {}

    @property
    def ledger(self) -> Path | None:
        """Where it stands beside what was spent of the examples' privacy; None without a folder."""
        return None if self._path is None else self._path.with_suffix(".dp-sgd.json")

    @property
    def _unsettled(self) -> Path:
        return Path(f"{self._path}.next")


def part_to_json(tensors: Mapping[int, Tensor]) -> str:
    """Tensors of a model with their places, as the base64 of a State."""
    places = tuple(sorted(tensors))
    state = State.of([from_torch(tensors[place]) for place in places], places)
    return base64.b64encode(state.serialize()).decode()


def part_from_json(text: object) -> dict[int, Tensor]:
    """What `part_to_json` wrote.

    Raises:
        WireError: it is something else.
    """
    try:
        state = State.parse(base64.b64decode(str(text), validate=True))
    except binascii.Error:
        raise WireError("it is not base64") from None
    if state.places is None:
        raise WireError("it does not say which tensors of the model it holds")
    return dict(zip(state.places, map(to_torch, state.tensors), strict=True))


def subject_of(token: str | None) -> str | None:
    """Whom a JSON Web Token names: its `sub` claim, unchecked, for the grid checks it. None if nobody."""
    parts = (token or "").split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    subject = claims.get("sub") if isinstance(claims, dict) else None
    return None if subject is None else str(subject)


def _encoded(whose: Whose, tensors: Mapping[int, Tensor]) -> bytes:
    text = part_to_json(tensors)
    return json.dumps(
        {
            "format": _FORMAT,
            **dataclasses.asdict(whose),
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "stateBase64": text,
        }
    ).encode()


def _read(path: Path, whose: Whose) -> dict[int, Tensor]:
    try:
        content = json.loads(path.read_bytes())
        if content["format"] != _FORMAT:
            raise PrivateStateError(
                f"the private state in {path} was written by another version of fedplan. {_AWAY}"
            )
        text = content["stateBase64"]
        if hashlib.sha256(text.encode()).hexdigest() != content["sha256"]:
            raise PrivateStateError(f"the private state in {path} is damaged: its sum differs. {_AWAY}")
        if Whose(*(content[field.name] for field in dataclasses.fields(Whose))) != whose:
            raise PrivateStateError(f"the private state in {path} is another worker's or model's. {_AWAY}")
        return part_from_json(text)
    except (ValueError, LookupError, TypeError, AttributeError, WireError) as error:
        raise PrivateStateError(f"the private state in {path} is damaged ({error}). {_AWAY}") from error


def _write(path: Path, data: bytes) -> None:
    """Writes a file that its owner alone can read, and brings it to the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with open(file, "wb") as out:
        out.write(data)
        out.flush()
        os.fsync(file)


def replace_file(path: Path, data: bytes) -> None:
    """Writes a file in place of the one that is there, so that it is the old one or the new one."""
    following = Path(f"{path}.next")
    _write(following, data)
    os.replace(following, path)
    _sync_names(path.parent)


def _sync_names(folder: Path) -> None:
    """Brings the names in a folder to the disk; Windows has no such call, and does it by itself."""
    if os.name == "nt":
        return
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


def _forms(tensors: Mapping[int, Tensor]) -> dict[int, Any]:
    return {place: (tensor.shape, tensor.dtype) for place, tensor in tensors.items()}


def _listed(tensors: Mapping[int, Tensor]) -> str:
    words = (
        f"tensor {place} of {str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for place, tensor in sorted(tensors.items())
    )
    return ", ".join(words)
