"""Blobs: models, Plans and diffs as bytes under keys, in a folder or an object store.

A blob is written before the row that refers to it, and never changed. After a crash a blob may be left,
whole or in part, to which no row refers; it does no harm.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore, from_url

from fedplan.grid.memory import Memory
from fedplan.wire.encoding import ZSTD, to_zstd
from fedplan.wire.protobuf import Buffer

_T = TypeVar("_T")

_CHUNK_BYTES = 1024 * 1024
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_LEAST_BYTES = 1024  # of a blob that is worth compressing: packets carry more than that
_MUST_SAVE = 0.05  # of a blob's bytes; else every reader would decompress for next to nothing
_DISK_THREADS = 4  # the disk does better with several requests at once; more delay commits and the loop


class Places(Protocol):
    """Where blobs are kept. Each method raises FileNotFoundError when there is none of that key."""

    async def put(self, key: str, data: Buffer) -> None:
        """Stores bytes, on disk before it returns."""

    async def get(self, key: str) -> bytes:
        """All bytes of a blob."""

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """A blob's size, and its bytes in pieces."""

    async def delete(self, keys: tuple[str, ...]) -> None:
        """Deletes blobs; one that is gone already is no error."""


class Blobs:
    """A blob store. Use `open`.

    Args:
        places: where they are kept.
        remembered: bytes of those kept in memory that are sent again and again.
    """

    def __init__(self, places: Places, remembered: int) -> None:
        self._places = places
        self._remembered: Memory[str, bytes] = Memory(remembered)
        self._compressing = asyncio.Lock()

    @classmethod
    def open(cls, url: str, remembered: int = 0) -> "Blobs":
        """Opens the blob store at an obstore URL.

        Args:
            url: ``file:///path`` (made when missing), ``memory://`` or an object store's.
            remembered: see above.
        """
        parts = urlsplit(url)
        if parts.scheme != "file":
            return cls(Bucket(from_url(url)), remembered)
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return cls(Folder(folder), remembered)

    async def put(self, kind: str, data: Buffer) -> str:
        """Stores bytes, on disk before it returns.

        Args:
            kind: what they are, such as ``diffs``: the first part of the key.
            data: the bytes.

        Returns:
            The new key.
        """
        key = f"{kind}/{secrets.token_hex(16)}"
        await self._places.put(key, data)
        return key

    async def get(self, key: str) -> bytes:
        """All bytes of a blob.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        return self._remembered.get(key) or await self._places.get(key)

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """A blob's size, and its bytes in pieces.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        return await self._places.stream(key)

    async def recall(self, key: str) -> bytes | None:
        """All bytes of a blob that is asked for again and again; None when it is too large to be remembered.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        data = self._remembered.get(key)
        if data is None:
            size, pieces = await self._places.stream(key)
            if not self._remembered.takes(size):
                return None
            data = b"".join([piece async for piece in pieces])
            self._remembered.put(key, data, size)
        return data

    async def recall_zstd(self, key: str, data: bytes) -> bytes | None:
        """A blob as zstd, compressed when it is first asked for; None when that saves next to nothing.

        Args:
            key: of the blob.
            data: all its bytes, as recalled.
        """
        if len(data) < _LEAST_BYTES:
            return None
        name = _zstd_name(key)
        smaller = self._remembered.get(name)
        if smaller is None:
            async with self._compressing:  # one at a time, and whoever waits for the same one finds it then
                smaller = self._remembered.get(name)
                if smaller is None:
                    smaller = await asyncio.to_thread(_compress, data)
                    self._remembered.put(name, smaller, len(smaller))
        return smaller or None

    async def delete(self, *keys: str) -> None:
        """Deletes blobs; one that is gone already is no error."""
        for key in keys:
            self._remembered.forget(key)
            self._remembered.forget(_zstd_name(key))
        await self._places.delete(keys)


def _zstd_name(key: str) -> str:
    """What a blob's compressed bytes are remembered as."""
    return f"{key}.{ZSTD}"


def _compress(data: bytes) -> bytes:
    """The bytes as zstd; none when that saves next to nothing."""
    smaller = to_zstd(data)
    return smaller if len(smaller) <= (1 - _MUST_SAVE) * len(data) else b""


class Folder:
    """Blobs as files.

    Args:
        folder: where.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._disk = ThreadPoolExecutor(_DISK_THREADS, "fedplan-disk")

    async def put(self, key: str, data: Buffer) -> None:
        """See `Places`."""
        await self._do(lambda: _write(str(self._folder / key), data))

    async def get(self, key: str) -> bytes:
        """See `Places`."""
        return await self._do((self._folder / key).read_bytes)

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """See `Places`."""
        path = self._folder / key
        size = (await self._do(path.stat)).st_size
        return size, self._pieces(path)

    async def delete(self, keys: tuple[str, ...]) -> None:
        """See `Places`."""

        def unlink() -> None:
            for key in keys:
                (self._folder / key).unlink(missing_ok=True)

        await self._do(unlink)

    async def _pieces(self, path: Path) -> AsyncIterator[bytes]:
        with await self._do(lambda: path.open("rb", buffering=0)) as file:
            while piece := await self._do(lambda: file.read(_CHUNK_BYTES)):
                yield piece

    async def _do(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, work)


def _write(path: str, data: Buffer) -> None:
    """Makes a file, and brings it and its name in the folder to the disk.

    In bare system calls: after each one the thread must wait for Python's lock again.
    """
    folder = os.path.dirname(path)
    try:
        file = os.open(path, _NEW_FILE, 0o666)
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
        file = os.open(path, _NEW_FILE, 0o666)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(file, left) :]
        os.fsync(file)
    except OSError:
        os.unlink(path)  # a full disk has better use for it
        raise
    finally:
        os.close(file)
    names = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(names)
    finally:
        os.close(names)


class Bucket:
    """Blobs in an object store, or in memory.

    Args:
        store: where.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, key: str, data: Buffer) -> None:
        """See `Places`."""
        await self._store.put_async(key, data)

    async def get(self, key: str) -> bytes:
        """See `Places`."""
        found = await self._store.get_async(key)
        return (await found.bytes_async()).to_bytes()

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """See `Places`."""
        found = await self._store.get_async(key)
        return found.meta["size"], _views(found.stream(min_chunk_size=_CHUNK_BYTES))

    async def delete(self, keys: tuple[str, ...]) -> None:
        """See `Places`."""
        for key in keys:
            try:
                await self._store.delete_async(key)
            except (FileNotFoundError, NotFoundError):
                continue


async def _views(stream: AsyncIterator[object]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(memoryview(piece))  # type: ignore[arg-type]  # obstore's Bytes is a buffer
