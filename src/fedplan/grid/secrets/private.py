"""Files and folders that only the user may read whom the grid runs as."""

import logging
import os
import stat
from pathlib import Path

logger = logging.getLogger(__name__)

_OTHERS = stat.S_IRWXG | stat.S_IRWXO

_OF_A_GRID = ("grid.db", "grid.key", ".grid.key", "blobs", "scratch")
"""How the names of what a grid's own folder holds begin."""


def keep_folder_private(folder: Path) -> None:
    """Makes a grid's folder, or takes it from other users; one that holds other things stays as it is.

    Raises:
        OSError: it cannot be made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if all(path.name.startswith(_OF_A_GRID) for path in folder.iterdir()):
        _take_from_others(folder, 0o700)
    elif is_open_to_others(folder):
        logger.warning("'%s' holds other things too, and other users may look into it", folder)


def keep_file_private(file: Path) -> None:
    """Makes a file that is not there, or takes it from other users, with what SQLite puts beside it.

    Raises:
        OSError: it cannot be made.
    """
    if not file.exists():
        os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
    for beside in ("", "-wal", "-shm"):
        _take_from_others(Path(f"{file}{beside}"), 0o600)


def is_open_to_others(path: Path) -> bool:
    """Whether another user than its owner may do anything with a file or a folder."""
    return bool(path.stat().st_mode & _OTHERS)


def _take_from_others(path: Path, mode: int) -> None:
    if not path.exists() or not is_open_to_others(path):
        return
    try:
        path.chmod(mode)
    except PermissionError:
        logger.warning("'%s' belongs to somebody else, and other users may read it", path)
