"""Making files so that they are there after a power cut.

In bare system calls: after each one a thread must wait for Python's lock again.
"""

import os

from fedplan.wire.protobuf import Buffer

_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


def new_file(path: str, flags: int = 0) -> int:
    """Makes and opens a file for writing, and its folder where that is missing; gives the descriptor."""
    try:
        return os.open(path, _NEW_FILE | flags, 0o666)
    except FileNotFoundError:
        folder = os.path.dirname(path)
        os.makedirs(folder, exist_ok=True)
        sync_names(os.path.dirname(folder))
        return os.open(path, _NEW_FILE | flags, 0o666)


def write_file(path: str, data: Buffer) -> None:
    """Makes a file, and brings it and its name in the folder to the disk."""
    file = new_file(path)
    try:
        write_all(file, data)
        os.fsync(file)
    except OSError:
        os.unlink(path)  # a full disk has better use for it
        raise
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
