"""Blobs in a folder: a file each, or many small ones of a group one after the other in one file."""

import asyncio
import contextlib
import errno
import functools
import os
import re
import secrets
import stat
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fedplan.errors import DamagedBlobError
from fedplan.grid.blobs.disk import write_file, write_part
from fedplan.grid.blobs.logs import MOST_BYTES, Logs
from fedplan.grid.blobs.storage import Listed, Stream, whole
from fedplan.wire.scalars import Buffer

_T = TypeVar("_T")

_CHUNK_BYTES = 1024 * 1024
_DISK_THREADS = 4  # the disk does better with several requests at once; more delay commits and the loop

_PART = re.compile(r"(?P<file>.+)@(?P<start>\d+)\+(?P<size>\d+)(\.\w+)?")
"""The key of a blob that is a part of a file."""


class Folder:
    """Blobs as files and parts of files.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = ThreadPoolExecutor(_DISK_THREADS, "fedplan-disk")
        self._logs = Logs(folder)

    async def put(self, key: str, data: Buffer) -> None:
        """See `Storage`."""
        part = _PART.fullmatch(key)
        if part is None:
            await self._do(lambda: write_file(str(self._folder / key), data))
        else:  # from another folder
            path, start = str(self._folder / part["file"]), int(part["start"])
            await self._do(lambda: write_part(path, start, data))

    async def add(self, group: str, data: Buffer, mark: str) -> str:
        """See `Storage`."""
        if len(data) <= MOST_BYTES:
            file, start = await self._logs.append(group, data)
            return f"{file}@{start}+{len(data)}{mark}"
        key = f"{group}/{secrets.token_hex(16)}{mark}"
        await self.put(key, data)
        return key

    async def get(self, key: str) -> bytes:
        """See `Storage`."""
        part = _PART.fullmatch(key)
        if part is None:
            return await self._do((self._folder / key).read_bytes)
        path, start, size = self._folder / part["file"], int(part["start"]), int(part["size"])
        return await self._do(lambda: _read_part(path, start, size))

    async def stream(self, key: str) -> Stream:
        """See `Storage`."""
        if _PART.fullmatch(key) is not None:  # at most `MOST_BYTES`
            return whole(await self.get(key))
        path = self._folder / key
        size = (await self._do(path.stat)).st_size
        return size, self._pieces(path)

    async def delete(self, keys: tuple[str, ...]) -> None:
        """See `Storage`."""

        def unlink() -> None:
            for key in keys:
                (self._folder / key).unlink(missing_ok=True)

        await self._do(unlink)

    async def names(self, group: str) -> list[str]:
        """See `Storage`."""
        return [f"{group}/{path.name}" for path in await self._in(group) if path.is_file()]

    async def listed(self, group: str) -> AsyncIterator[Listed]:
        """See `Storage`."""
        for path in await self._in(group):
            found = await self._do(functools.partial(_listed, group, path))
            if found is not None:
                yield found

    async def is_empty(self) -> bool:
        """See `Storage`."""
        return not await self._in("")

    async def groups(self, parent: str) -> list[str]:
        """See `Storage`."""
        return [path.name for path in await self._in(parent) if path.is_dir()]

    async def drop(self, group: str) -> None:
        """See `Storage`."""
        await self._logs.forget(group)
        await self._do(lambda: _delete(self._folder / group))

    async def aclose(self) -> None:
        """See `Storage`."""
        await self._logs.aclose()
        self._disk.shutdown()

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        with await self._do(lambda: path.open("rb", buffering=0)) as file:
            while piece := await self._do(lambda: file.read(_CHUNK_BYTES)):
                yield piece

    async def _in(self, group: str) -> list[Path]:
        """The files and folders of a group's folder."""
        folder = self._folder / group
        return await self._do(lambda: list(folder.iterdir()) if folder.exists() else [])

    async def _do(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _listed(group: str, path: Path) -> Listed | None:
    """A file of a group; None when it is a folder, or was deleted meanwhile."""
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return Listed(f"{group}/{path.name}", found.st_mtime) if stat.S_ISREG(found.st_mode) else None


def _read_part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb", buffering=0) as file:
        part = os.pread(file.fileno(), size, start)
    if len(part) != size:
        raise DamagedBlobError(f"{path} was cut short: {size} bytes from byte {start} on are not there")
    return part


def _delete(folder: Path) -> None:
    """Deletes a folder of files. One that comes meanwhile stays, and the folder with it."""
    with contextlib.suppress(FileNotFoundError):
        for path in list(folder.iterdir()):
            path.unlink(missing_ok=True)
        try:
            folder.rmdir()
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
