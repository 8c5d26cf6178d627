"""Making files so that they are there after a power cut.

In bare system calls: after each one a thread must wait for Python's lock again.
"""

import contextlib
import os

from fedplan.wire.scalars import Buffer

UNFINISHED = ".new"
"""How the name of a file ends while it is written."""

NEW = os.O_CREAT | os.O_EXCL
"""The flags for a file that must not be there yet."""


def open_file(path: str, flags: int) -> int:
    """Opens a file for writing; a new one is made, and its folder where that is missing.

    Args:
        path: of the file.
        flags: how, besides; with `NEW` for a new file.

    Returns:
        The descriptor.
    """
    flags |= os.O_WRONLY | os.O_CLOEXEC
    try:
        return os.open(path, flags, 0o666)
    except FileNotFoundError:
        if not flags & os.O_CREAT:
            raise
        _make_folder(os.path.dirname(path))
        return os.open(path, flags, 0o666)


def _make_folder(folder: str) -> None:
    """Makes a folder, and those above it, and brings their names to the disk."""
    if not os.path.isdir(folder):
        above = os.path.dirname(folder)
        _make_folder(above)
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder)
        sync_names(above)


def write_file(path: str, data: Buffer) -> None:
    """Makes a file, and brings it and its name in the folder to the disk. Nobody sees a part of it there."""
    unfinished = path + UNFINISHED
    file = open_file(unfinished, NEW)
    try:
        try:
            write_all(file, data)
            os.fsync(file)
        finally:
            os.close(file)
        os.rename(unfinished, path)
    except OSError:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(unfinished)  # a full disk has better use for it
        raise
    sync_names(os.path.dirname(path))


def write_part(path: str, start: int, data: Buffer) -> None:
    """Writes bytes into a file from a position on, and brings them and its name to the disk."""
    file = open_file(path, os.O_CREAT)
    try:
        os.lseek(file, start, os.SEEK_SET)
        write_all(file, data)
        os.fsync(file)
    finally:
        os.close(file)
    sync_names(os.path.dirname(path))


def write_all(file: int, data: Buffer) -> None:
    """Writes all of some bytes: one call may write a part."""
    left = memoryview(data)
    while left:
        left = left[os.write(file, left) :]


def sync_names(folder: str) -> None:
    """Brings the names in a folder to the disk."""
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)
