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
from fedplan.wire.scalars import Buffer

_T = TypeVar("_T")

MOST_BYTES = 4 * 1024 * 1024
"""The largest blob that is appended."""

_BLOCK = 4096
_BUFFER_BYTES = 2 * MOST_BYTES
_KNOWN_FILES = 1000

_PAST_THE_CACHE = getattr(os, "O_DIRECT", 0)

Spot = tuple[str, int]
"""A file's name under the folder, and where in it a blob starts."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Waiting:
    group: str
    data: Buffer
    spot: asyncio.Future[Spot]


class Logs:
    """Appends blobs to the files of a folder. What comes while a write is under way is written by the next.

    Args:
        folder: where. Each group has a folder of its own there.
    """

    def __init__(self, folder: Path) -> None:
        self._waiting: list[_Waiting] = []
        self._task: asyncio.Task[None] | None = None
        self._thread = ThreadPoolExecutor(1, "fedplan-log")
        self._files = _Files(folder)  # the thread's alone

    async def append(self, group: str, data: Buffer) -> Spot:
        """Appends a blob of at most `MOST_BYTES` to a file of its group, on disk before it returns."""
        waiting = _Waiting(group, data, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._task is None:
            self._task = asyncio.create_task(self._work())
        return await waiting.spot

    async def forget(self, group: str) -> None:
        """Lets a group's file be, once what comes before is written; what comes later goes into a new one."""
        await self._do(lambda: self._files.forget(group))

    async def aclose(self) -> None:
        """Ends once everything is written."""
        if self._task is not None:
            await asyncio.wait([self._task])
        self._thread.shutdown()

    async def _work(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, []
                for group in dict.fromkeys(waiting.group for waiting in batch):
                    await self._write(group, [waiting for waiting in batch if waiting.group == group])
        finally:
            self._task = None

    async def _write(self, group: str, batch: Sequence[_Waiting]) -> None:
        blobs = [waiting.data for waiting in batch]
        try:
            spots = await self._do(functools.partial(self._files.append, group, blobs))
        except Exception as error:  # noqa: BLE001  # whatever it is, those who wait must hear of it
            for waiting in batch:
                if not waiting.spot.done():
                    waiting.spot.set_exception(error)
            return
        for waiting, spot in zip(batch, spots, strict=True):
            if not waiting.spot.done():  # else who waited was cancelled
                waiting.spot.set_result(spot)

    async def _do(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)


@dataclasses.dataclass(slots=True)
class _Log:
    """A file, and how much was written to it."""

    name: str
    size: int = 0


class _Files:
    """The files, and the memory that is written to them.

    A file is open only while it is written to: another replica may delete it, and its bytes with it.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._flags = os.O_DSYNC | _PAST_THE_CACHE  # a write returns when it is on the disk
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._buffer = memoryview(mmap.mmap(-1, _BUFFER_BYTES))  # starts at a page

    def append(self, group: str, blobs: Sequence[Buffer]) -> list[Spot]:
        """Appends blobs to a group's file. When that fails, the file is not written to any more."""
        try:
            log, file = self._open(group)
            try:
                return self._fill(log, file, blobs)
            finally:
                os.close(file)
        except OSError as error:
            self.forget(group)
            if error.errno != errno.EINVAL or not self._flags & _PAST_THE_CACHE:
                raise
        self._flags &= ~_PAST_THE_CACHE  # the file system has nothing but its cache, or larger blocks
        return self.append(group, blobs)

    def forget(self, group: str) -> None:
        """Lets a group's file be: what is appended later goes into a new one."""
        self._logs.pop(group, None)

    def _fill(self, log: _Log, file: int, blobs: Sequence[Buffer]) -> list[Spot]:
        spots = []
        filled = 0
        for blob in blobs:
            end = _whole_blocks(filled + len(blob))
            if end > len(self._buffer):
                self._write(log, file, filled)
                filled, end = 0, _whole_blocks(len(blob))
            spots.append((log.name, log.size + filled))
            self._buffer[filled : filled + len(blob)] = blob
            self._buffer[filled + len(blob) : end] = bytes(end - filled - len(blob))
            filled = end
        self._write(log, file, filled)
        return spots

    def _write(self, log: _Log, file: int, filled: int) -> None:
        try:
            write_all(file, self._buffer[:filled])
        except OSError:  # a full disk has better use for what was written
            if log.size:
                os.ftruncate(file, log.size)
            else:
                (self._folder / log.name).unlink(missing_ok=True)
            raise
        log.size += filled

    def _open(self, group: str) -> tuple[_Log, int]:
        """The file of a group, at its end; a new one where there is none."""
        log = self._logs.get(group)
        if log is not None:
            try:
                return log, open_file(str(self._folder / log.name), self._flags | os.O_APPEND)
            except FileNotFoundError:
                self.forget(group)
        log = _Log(f"{group}/{secrets.token_hex(4)}")
        file = open_file(str(self._folder / log.name), self._flags | NEW)
        try:
            sync_names(str(self._folder / group))
        except OSError:
            os.close(file)
            raise
        self._logs[group] = log
        if len(self._logs) > _KNOWN_FILES:
            self._logs.popitem(last=False)
        return log, file


def _whole_blocks(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
