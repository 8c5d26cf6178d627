"""Blobs: models, Plans and diffs as bytes under keys, in a folder or an object store.

A blob is written before the row that refers to it, and never changed. After a crash a blob may be left,
whole or in part, to which no row refers; a group's go with the group.

A key ends in the CRC-32 of its blob, which is checked whenever the blob is read. Keys of older grids have
none; what they name is read as it is.
"""

import asyncio
import functools
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from urllib.parse import unquote, urlsplit
from zlib import crc32

from obstore.store import from_url

from fedplan.errors import DamagedBlobError
from fedplan.grid.blobs.bucket import Bucket
from fedplan.grid.blobs.checksum import checksum_in, mark_in_thread
from fedplan.grid.blobs.folder import Folder
from fedplan.grid.blobs.storage import Listed, Storage, Stream
from fedplan.grid.memory import Memory
from fedplan.wire.encoding import ZSTD, to_zstd
from fedplan.wire.scalars import Buffer

_LEAST_BYTES = 1024  # of a blob that is worth compressing: packets carry more than that
_ROOM = 4  # times a blob's bytes, to compress it: both its forms are remembered, beside many others
_MUST_SAVE = 0.05  # of a blob's bytes; else every reader would decompress for next to nothing

_CHECKED = 10_000  # blobs of which it is remembered that they were whole


class Blobs:
    """A blob store. Use `open`.

    Args:
        storage: where they are kept.
        remembered: bytes of those kept in memory that are sent again and again.

    Attributes:
        on_damage: called with the key of a blob that is found damaged.
    """

    def __init__(self, storage: Storage, remembered: int) -> None:
        self.on_damage: Callable[[str], object] = lambda _: None
        self._storage = storage
        self._remembered: Memory[str, bytes] = Memory(remembered)
        self._whole: Memory[str, bool] = Memory(_CHECKED)
        self._reading: dict[str, asyncio.Task[bytes | None]] = {}
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

    async def put(self, kind: str, data: Buffer, name: str | None = None) -> str:
        """Stores bytes, on disk before it returns.

        Args:
            kind: what they are, such as ``diffs``: the first part of the key.
            data: the bytes.
            name: how the rest of the key begins, which no other key of the kind does; any by default.

        Returns:
            The new key.
        """
        key = f"{kind}/{name or secrets.token_hex(16)}{await mark_in_thread(data)}"
        await self._storage.put(key, data)
        return key

    async def put_as(self, key: str, data: Buffer) -> None:
        """Stores the bytes of a blob of another store under the key that it has there.

        Args:
            key: the key.
            data: the bytes; who calls has held them against the key's checksum.
        """
        await self._storage.put(key, data)

    async def add(self, group: str, data: Buffer, mark: str | None = None) -> str:
        """Stores bytes with others that will be deleted together, on disk before it returns.

        Args:
            group: which others, such as ``diffs/7``: the first part of the key.
            data: the bytes.
            mark: their `mark_of`, if it is known already.

        Returns:
            The new key.
        """
        return await self._storage.add(group, data, mark or await mark_in_thread(data))

    async def get(self, key: str) -> bytes:
        """All bytes of a blob.

        Raises:
            FileNotFoundError: there is none of that key.
            DamagedBlobError: its bytes are not those that were stored.
        """
        found = self._remembered.get(key)
        if found is None:
            try:
                found = await self._storage.get(key)
            except DamagedBlobError:
                self.on_damage(key)
                raise
            if checksum_in(key) is not None and not key.endswith(await mark_in_thread(found)):
                raise self._damaged(key)
        return found

    async def stream(self, key: str) -> Stream:
        """A blob's size, and its bytes in pieces. The last one comes when all are known to be good.

        Raises:
            FileNotFoundError: there is none of that key.
            DamagedBlobError: while the pieces come: they are not what was stored.
        """
        size, pieces = await self._storage.stream(key)
        checksum = checksum_in(key)
        return size, pieces if checksum is None else self._checked(key, checksum, pieces)

    async def check(self, key: str) -> bool:
        """Reads a blob through; returns whether it has a checksum, against which it was held.

        Raises:
            FileNotFoundError: there is none of that key.
            DamagedBlobError: its bytes are not those that were stored.
        """
        _, pieces = await self.stream(key)
        async for _ in pieces:
            pass
        return checksum_in(key) is not None

    async def recall(self, key: str, opened: Callable[[], Awaitable[Stream]] | None = None) -> bytes | Stream:
        """What is asked for again and again: its bytes, or a stream if it is too large to be remembered.

        A stream is read through before it is given for the first time: what is damaged is known before the
        first byte is on its way. Who asks for the same while it is being read waits for that.

        Args:
            key: of a blob, or a name for what is made of several.
            opened: how to get the stream; by default the blob's.

        Raises:
            FileNotFoundError: there is none of that key.
            DamagedBlobError: its bytes, or some that it is made of, are not those that were stored.
        """
        data = self._remembered.get(key)
        if data is not None:
            return data
        open = opened or functools.partial(self.stream, key)
        if not self._whole.get(key):
            data = await self._read_once(key, open)
        return await open() if data is None else data

    async def _read_once(self, key: str, open: Callable[[], Awaitable[Stream]]) -> bytes | None:
        """What `_read` returns, of one reading for all who ask meanwhile."""
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self._read(key, open))
            reading.add_done_callback(lambda _: self._reading.pop(key))
        return await asyncio.shield(reading)  # whoever goes away must not end it for the others

    async def _read(self, key: str, open: Callable[[], Awaitable[Stream]]) -> bytes | None:
        """Reads a stream through; returns its bytes if they are remembered now."""
        size, pieces = await open()
        if self._remembered.takes(size):
            data = b"".join([piece async for piece in pieces])
            self._remembered.put(key, data, size)
            return data
        async for _ in pieces:
            pass
        self._whole.put(key, True)
        return None

    async def recall_zstd(self, key: str, data: bytes) -> bytes | None:
        """A blob as zstd, compressed when it is first asked for; None when that saves next to nothing.

        Args:
            key: of the blob.
            data: all its bytes, as recalled.
        """
        if len(data) < _LEAST_BYTES or not self._remembered.takes(_ROOM * len(data)):
            return None
        name = _zstd_name(key)
        smaller = self._remembered.get(name)
        if smaller is None:
            async with self._compressing:  # one at a time, and whoever waits for the same one finds it then
                smaller = self._remembered.get(name)
                if smaller is None:
                    smaller = await asyncio.to_thread(_compress, data)
                    self._remembered.put(name, smaller, max(len(smaller), _LEAST_BYTES))
        return smaller or None

    async def delete(self, *keys: str) -> None:
        """Deletes blobs that were put; one that is gone already is no error."""
        for key in keys:
            self._remembered.forget(key)
            self._remembered.forget(_zstd_name(key))
        if keys:
            await self._storage.delete(keys)

    async def names(self, kind: str) -> list[str]:
        """The keys of all blobs that were put as of one kind."""
        return await self._storage.names(kind)

    def listed(self, kind: str) -> AsyncIterator[Listed]:
        """All blobs that were put as of one kind, with what a crash has left of others."""
        return self._storage.listed(kind)

    async def is_empty(self) -> bool:
        """Whether there is nothing at all."""
        return await self._storage.is_empty()

    async def groups(self, parent: str) -> list[str]:
        """The last parts of the names of the groups below another: ``7`` of ``diffs/7`` for ``diffs``."""
        return await self._storage.groups(parent)

    async def drop(self, group: str) -> None:
        """Deletes all blobs of a group, whoever added them."""
        await self._storage.drop(group)

    async def aclose(self) -> None:
        """Ends all work."""
        await asyncio.gather(*self._reading.values(), return_exceptions=True)
        await self._storage.aclose()

    async def _checked(self, key: str, checksum: int, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same pieces; an error takes the last one's place when they are not what was stored."""
        last, found = b"", 0
        async for piece in pieces:
            if last:
                yield last
            last, found = piece, crc32(piece, found)
        if found != checksum:
            raise self._damaged(key)
        if last:
            yield last

    def _damaged(self, key: str) -> DamagedBlobError:
        self.on_damage(key)
        return DamagedBlobError(f"the blob {key} is damaged: its bytes are not those that were stored")


def _zstd_name(key: str) -> str:
    """What a blob's compressed bytes are remembered as."""
    return f"{key}.{ZSTD}"


def _compress(data: bytes) -> bytes:
    """The bytes as zstd; none when that saves next to nothing."""
    smaller = to_zstd(data)
    return smaller if len(smaller) <= (1 - _MUST_SAVE) * len(data) else b""
