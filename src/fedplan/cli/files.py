"""Files that commands read and write; each error says which file it is about."""

import contextlib
import json
import os
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedplan.errors import ConfigError, DataError, FedplanError, WireError

if TYPE_CHECKING:
    from fedplan.plan import Plan
    from fedplan.wire import State


@contextlib.contextmanager
def about_file(path: Path, kind: str | None = None) -> Iterator[None]:
    """Says of which file an error tells: in notes, which the command line puts in front of the message.

    Args:
        path: the file.
        kind: what its bytes should be.
    """
    try:
        yield
    except FedplanError as error:
        error.add_note(str(path))
        if kind is not None and isinstance(error, WireError):
            error.add_note(f"this is not a serialized {kind}")
        raise


def read_plan(path: Path) -> "Plan":
    """The Plan that a file holds, as a serialized ``syft_proto.execution.v1.Plan``.

    Raises:
        WireError: it holds something else.
        PlanError: the Plan is not well formed, or has an operation that no Plan may have.
    """
    from fedplan.plan import Plan

    with about_file(path, "Plan"):
        return Plan.parse(path.read_bytes())


def read_state(path: Path) -> "State":
    """The State that a file holds, as a serialized ``syft_proto.execution.v1.State``; its tensors are good.

    Raises:
        WireError: it holds something else.
    """
    from fedplan.wire import State

    with about_file(path, "State"):
        state = State.parse(path.read_bytes())
        state.tensors  # noqa: B018  reading them checks them
        return state


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ConfigError: it holds something else.
    """
    with about_file(path):
        try:
            value = json.loads(path.read_bytes())
        except ValueError as error:
            raise ConfigError(f"this is not JSON: {error}") from None
        if not isinstance(value, dict):
            raise ConfigError("a JSON object is needed, in braces: {…}")
        return value


def read_arrays(path: Path) -> tuple[Any, Any]:
    """Data and targets from an ``.npz`` file: its arrays `x` and `y`, else its first two.

    Raises:
        DataError: it is no such file, has fewer than two arrays, or these have no rows or not as many.
    """
    import numpy as np

    with about_file(path):
        try:
            with path.open("rb") as file:
                arrays = _first_two(np.load(file, allow_pickle=False))
        except (ValueError, EOFError, zipfile.BadZipFile) as error:
            raise DataError(f"this is no file that numpy.savez writes: {error}") from None
        if len(arrays) < 2:
            raise DataError("two arrays are needed: numpy.savez(FILE, x=data, y=targets)")
        if any(array.ndim == 0 for array in arrays) or len(arrays[0]) != len(arrays[1]):
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise DataError(f"data and targets need one row for each sample; their shapes are {shapes}")
        if len(arrays[0]) == 0:
            raise DataError("there is no sample in it, so nothing to train on")
        return arrays[0], arrays[1]


def _first_two(archive: Any) -> list[Any]:
    """The arrays `x` and `y`, else the first two there are; a single array has no names and is not taken."""
    names = list(getattr(archive, "files", ()))
    chosen = ["x", "y"] if {"x", "y"} <= set(names) else names[:2]
    return [archive[name] for name in chosen]


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that others see the old content or the new one, and never a part of it.

    Raises:
        OSError: the folder does not exist, or cannot be written to.
    """
    if path.exists() and not path.is_file():  # a pipe or /dev/stdout: there is nothing to replace
        path.write_bytes(data)
        return
    path = path.resolve()  # a link stays one
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
