"""Blobs in an object store, or in memory."""

import contextlib
import secrets
from collections.abc import AsyncIterator

from obstore.exceptions import NotFoundError
from obstore.store import ObjectStore

from fedplan.grid.blobs.storage import Listed
from fedplan.wire.scalars import Buffer

_CHUNK_BYTES = 1024 * 1024


class Bucket:
    """Blobs in an object store, or in memory: one object each.

    Args:
        store: where.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def put(self, key: str, data: Buffer) -> None:
        """See `Storage`."""
        await self._store.put_async(key, data)

    async def add(self, group: str, data: Buffer, mark: str) -> str:
        """See `Storage`."""
        key = f"{group}/{secrets.token_hex(16)}{mark}"
        await self.put(key, data)
        return key

    async def get(self, key: str) -> bytes:
        """See `Storage`."""
        found = await self._store.get_async(key)
        return (await found.bytes_async()).to_bytes()

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """See `Storage`."""
        found = await self._store.get_async(key)
        return found.meta["size"], _views(found.stream(min_chunk_size=_CHUNK_BYTES))

    async def delete(self, keys: tuple[str, ...]) -> None:
        """See `Storage`."""
        for key in keys:
            with contextlib.suppress(FileNotFoundError, NotFoundError):
                await self._store.delete_async(key)

    async def names(self, group: str) -> list[str]:
        """See `Storage`."""
        return [found["path"] async for page in self._store.list(f"{group}/") for found in page]

    async def listed(self, group: str) -> AsyncIterator[Listed]:
        """See `Storage`."""
        async for page in self._store.list(f"{group}/"):
            for found in page:
                yield Listed(found["path"], found["last_modified"].timestamp())

    async def is_empty(self) -> bool:
        """See `Storage`."""
        async for page in self._store.list():
            if page:
                return False
        return True

    async def groups(self, parent: str) -> list[str]:
        """See `Storage`."""
        found = await self._store.list_with_delimiter_async(f"{parent}/")
        return [prefix.rstrip("/").rpartition("/")[2] for prefix in found["common_prefixes"]]

    async def drop(self, group: str) -> None:
        """See `Storage`."""
        async for page in self._store.list(f"{group}/"):
            await self.delete(tuple(found["path"] for found in page))

    async def aclose(self) -> None:
        """See `Storage`; nothing is held."""


async def _views(stream: AsyncIterator[object]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(memoryview(piece))  # type: ignore[arg-type]  # obstore's Bytes is a buffer
