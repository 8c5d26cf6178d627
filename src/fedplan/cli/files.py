"""Files that commands read and write; each error says which file it is about."""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedplan.errors import ConfigError, DataError, FedplanError

if TYPE_CHECKING:
    from fedplan.plan import Plan
    from fedplan.wire import State


@contextlib.contextmanager
def about(path: Path) -> Iterator[None]:
    """Names a file in the errors that are raised inside: as a note, which the command line puts in front."""
    try:
        yield
    except FedplanError as error:
        error.add_note(str(path))
        raise


def read_plan(path: Path) -> "Plan":
    """The Plan that a file holds, as a serialized ``syft_proto.execution.v1.Plan``.

    Raises:
        WireError: it holds something else.
        PlanError: the Plan is not well formed, or has an operation that no Plan may have.
    """
    from fedplan.plan import Plan

    with about(path):
        return Plan.parse(path.read_bytes())


def read_state(path: Path) -> "State":
    """The State that a file holds, as a serialized ``syft_proto.execution.v1.State``; its tensors are good.

    Raises:
        WireError: it holds something else.
    """
    from fedplan.wire import State

    with about(path):
        state = State.parse(path.read_bytes())
        state.tensors  # noqa: B018  reading them checks them
        return state


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object that a file holds.

    Raises:
        ConfigError: it holds something else.
    """
    with about(path):
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
        DataError: it is no such file, has fewer than two arrays, or these differ in their number of rows.
    """
    import numpy as np

    with about(path):
        try:
            archive = np.load(path, allow_pickle=False)
            names = list(archive) if isinstance(archive, np.lib.npyio.NpzFile) else []
            chosen = ["x", "y"] if {"x", "y"} <= set(names) else names[:2]
            arrays = [archive[name] for name in chosen]
        except (ValueError, EOFError) as error:
            raise DataError(f"this is no file that numpy.savez writes: {error}") from None
        if len(arrays) < 2:
            raise DataError("two arrays are needed: numpy.savez(FILE, x=data, y=targets)")
        if any(array.ndim == 0 for array in arrays) or len(arrays[0]) != len(arrays[1]):
            shapes = " and ".join(str(array.shape) for array in arrays)
            raise DataError(f"data and targets need one row for each sample; their shapes are {shapes}")
        return arrays[0], arrays[1]


def write_whole(path: Path, data: bytes) -> None:
    """Writes a file so that others see the old content or the new one, and never a part of it.

    Raises:
        OSError: the folder does not exist, or cannot be written to.
    """
    path = path.resolve()
    if path.exists() and not path.is_file():  # a pipe or /dev/stdout: there is nothing to replace
        path.write_bytes(data)
        return
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
