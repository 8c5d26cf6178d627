"""Files to which blobs are appended, so that one write brings to the disk all that came together.

To make a file for a blob, and to bring its name to the disk, takes a file system longer than to write a
megabyte into a file that is there already. These blobs are hardly ever read, so they do not go through the
page cache where the system can do without; positions, sizes and memory must then be multiples of a block.
"""

import asyncio
import dataclasses
import errno
import functools
import mmap
import os
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from fedplan.grid.blobs.disk import new_file, sync_names, write_all
from fedplan.wire.protobuf import Buffer

_T = TypeVar("_T")

MOST_BYTES = 4 * 1024 * 1024
"""The largest blob that is appended."""

_BLOCK = 4096
_BUFFER_BYTES = 2 * MOST_BYTES
_OPEN_FILES = 64

_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)
_TO_THE_DISK = os.O_DSYNC
"""A write returns when it is there."""

Place = tuple[str, int]
"""A file's name under the folder, and where in it a blob starts."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    group: str
    data: Buffer
    place: asyncio.Future[Place]


@dataclasses.dataclass(slots=True)
class _Log:
    """An open file, and how much was written to it."""

    name: str
    file: int
    size: int = 0


class Logs:
    """The files of a folder: for each group one that is being appended to.

    Args:
        folder: where. Each group has a folder of its own there.
    """

    def __init__(self, folder: Path) -> None:
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "fedplan-log")
        self._files = _Files(folder)  # the thread's alone

    async def append(self, group: str, data: Buffer) -> Place:
        """Appends a blob of at most `MOST_BYTES` to a file of its group, on disk before it returns."""
        waiting = _Waiting(group, data, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await waiting.place

    async def close(self, group: str) -> None:
        """Closes a group's file; what is appended later goes into a new one."""
        await self._do(lambda: self._files.close(group))

    async def aclose(self) -> None:
        """Closes all files, once everything is written."""
        if self._task is not None:
            await asyncio.wait([self._task])
        await self._do(self._files.close_all)
        self._thread.shutdown()

    async def _work(self) -> None:
        """Writes what waits, and what comes meanwhile."""
        while self._waiting:
            batch, self._waiting = self._waiting, []
            places = await self._do(functools.partial(self._write, batch))
            for waiting, place in zip(batch, places, strict=True):
                if waiting.place.done():  # cancelled
                    continue
                if isinstance(place, OSError):
                    waiting.place.set_exception(place)
                else:
                    waiting.place.set_result(place)
        self._task = None

    def _write(self, batch: Sequence[_Waiting]) -> list[Place | OSError]:
        places: dict[int, Place | OSError] = {}
        for group in dict.fromkeys(waiting.group for waiting in batch):
            mine = [index for index, waiting in enumerate(batch) if waiting.group == group]
            try:
                written = self._files.append(group, [batch[index].data for index in mine])
            except OSError as error:
                places |= dict.fromkeys(mine, error)
            else:
                places |= zip(mine, written, strict=True)
        return [places[index] for index in range(len(batch))]

    async def _do(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


class _Files:
    """The open files, and the memory that is written to them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._open: OrderedDict[str, _Log] = OrderedDict()
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # starts at a page

    def append(self, group: str, blobs: Sequence[Buffer]) -> list[Place]:
        """Appends blobs to a group's file. When that fails, the file is not written to any more."""
        places = []
        filled = 0
        try:
            log = self._log(group)
            for blob in blobs:
                end = -(-(filled + len(blob)) // _BLOCK) * _BLOCK
                if end > len(self._buffer):
                    self._write(log, filled)
                    filled, end = 0, end - filled
                places.append((log.name, log.size + filled))
                self._buffer[filled : filled + len(blob)] = blob
                self._buffer[filled + len(blob) : end] = bytes(end - filled - len(blob))
                filled = end
            self._write(log, filled)
        except OSError:
            self.close(group)
            raise
        return places

    def close(self, group: str) -> None:
        """Closes a group's file, if it is open."""
        log = self._open.pop(group, None)
        if log is not None:
            os.close(log.file)

    def close_all(self) -> None:
        """Closes all files."""
        for group in list(self._open):
            self.close(group)

    def _write(self, log: _Log, filled: int) -> None:
        try:
            write_all(log.file, self._buffer[:filled])
        except OSError:
            os.ftruncate(log.file, log.size)  # a full disk has better use for it
            raise
        log.size += filled

    def _log(self, group: str) -> _Log:
        """The open file of a group; a new one, where there is none."""
        if group not in self._open:
            name = f"{group}/{secrets.token_hex(8)}"
            self._open[group] = _Log(name, _new_file(str(self._folder / name)))
            sync_names(str(self._folder / group))
            if len(self._open) > _OPEN_FILES:
                self.close(next(iter(self._open)))
        self._open.move_to_end(group)
        return self._open[group]


def _new_file(path: str) -> int:
    try:
        return new_file(path, _TO_THE_DISK | _PAST_THE_CACHE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return new_file(path, _TO_THE_DISK)  # a file system that has nothing but its cache
