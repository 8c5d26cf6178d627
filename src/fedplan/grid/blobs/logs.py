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

from fedplan.grid.blobs.disk import NEW, open_file, sync_names, write_all
from fedplan.wire.protobuf import Buffer

_T = TypeVar("_T")

MOST_BYTES = 4 * 1024 * 1024
"""The largest blob that is appended."""

_BLOCK = 4096
_BUFFER_BYTES = 2 * MOST_BYTES
_KNOWN_FILES = 1000

_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)

Place = tuple[str, int]
"""A file's name under the folder, and where in it a blob starts."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    group: str
    data: Buffer
    place: asyncio.Future[Place]


@dataclasses.dataclass(slots=True)
class _Log:
    """A file, and how much was written to it."""

    name: str
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

    async def forget(self, group: str) -> None:
        """Lets a group's file be, once what comes before is written; what comes later goes into a new one."""
        await self._do(lambda: self._files.forget(group))

    async def aclose(self) -> None:
        """Ends once everything is written."""
        if self._task is not None:
            await asyncio.wait([self._task])
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
    """The files, and the memory that is written to them.

    A file is open only while it is written to: another replica may delete it, and its bytes with it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # starts at a page

    def append(self, group: str, blobs: Sequence[Buffer]) -> list[Place]:
        """Appends blobs to a group's file. When that fails, the file is not written to any more."""
        log, file = self._open(group)
        try:
            return self._append(log, file, blobs)
        except OSError:
            self.forget(group)
            raise
        finally:
            os.close(file)

    def forget(self, group: str) -> None:
        """Lets a group's file be: what is appended later goes into a new one."""
        self._logs.pop(group, None)

    def _append(self, log: _Log, file: int, blobs: Sequence[Buffer]) -> list[Place]:
        places = []
        filled = 0
        for blob in blobs:
            end = _whole_blocks(filled + len(blob))
            if end > len(self._buffer):
                self._write(log, file, filled)
                filled, end = 0, _whole_blocks(len(blob))
            places.append((log.name, log.size + filled))
            self._buffer[filled : filled + len(blob)] = blob
            self._buffer[filled + len(blob) : end] = bytes(end - filled - len(blob))
            filled = end
        self._write(log, file, filled)
        return places

    def _write(self, log: _Log, file: int, filled: int) -> None:
        try:
            write_all(file, self._buffer[:filled])
        except OSError:
            os.ftruncate(file, log.size)  # a full disk has better use for it
            raise
        log.size += filled

    def _open(self, group: str) -> tuple[_Log, int]:
        """The file of a group, at its end; a new one where there is none."""
        log = self._logs.get(group)
        if log is not None:
            try:
                return log, _past_the_cache(str(self._folder / log.name), os.O_APPEND)
            except FileNotFoundError:
                self.forget(group)
        log = _Log(f"{group}/{secrets.token_hex(8)}")
        file = _past_the_cache(str(self._folder / log.name), NEW)
        sync_names(str(self._folder / group))
        self._logs[group] = log
        if len(self._logs) > _KNOWN_FILES:
            self._logs.popitem(last=False)
        return log, file


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK


def _past_the_cache(path: str, flags: int) -> int:
    """Opens a file so that a write returns when it is on the disk."""
    try:
        return open_file(path, flags | os.O_DSYNC | _PAST_THE_CACHE)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return open_file(path, flags | os.O_DSYNC)  # a file system that has nothing but its cache
