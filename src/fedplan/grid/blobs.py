"""Blobs: models, Plans and diffs as bytes under keys, in a folder or an object store.

A blob is written before the row that refers to it, and never changed. After a crash a blob may be left to
which no row refers; it does no harm.
"""

import asyncio
import os
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Self
from urllib.parse import unquote, urlsplit

from obstore.exceptions import NotFoundError
from obstore.store import LocalStore, ObjectStore, from_url

_CHUNK_BYTES = 1024 * 1024


class Blobs:
    """A blob store. Use `open`."""

    def __init__(self, store: ObjectStore, folder: Path | None) -> None:
        self._store = store
        self._folder = folder

    @classmethod
    def open(cls, url: str) -> Self:
        """Opens the blob store at an obstore URL.

        Args:
            url: ``file:///path`` (made when missing), ``memory://`` or an object store's.
        """
        parts = urlsplit(url)
        if parts.scheme != "file":
            return cls(from_url(url), None)
        folder = Path(unquote(parts.path))
        folder.mkdir(parents=True, exist_ok=True)
        return cls(LocalStore(folder), folder)

    async def put(self, kind: str, data: bytes) -> str:
        """Stores bytes, on disk before it returns.

        Args:
            kind: what they are, such as ``diffs``: the first part of the key.
            data: the bytes.

        Returns:
            The new key.
        """
        key = f"{kind}/{secrets.token_hex(16)}"
        await self._store.put_async(key, data)
        if self._folder is not None:
            await asyncio.to_thread(_flush, self._folder / key)
        return key

    async def get(self, key: str) -> bytes:
        """All bytes of a blob.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        found = await self._store.get_async(key)
        return (await found.bytes_async()).to_bytes()

    async def stream(self, key: str) -> tuple[int, AsyncIterator[bytes]]:
        """A blob's size, and its bytes in pieces.

        Raises:
            FileNotFoundError: there is none of that key.
        """
        found = await self._store.get_async(key)
        return found.meta["size"], _pieces(found.stream(min_chunk_size=_CHUNK_BYTES))

    async def delete(self, *keys: str) -> None:
        """Deletes blobs; one that is gone already is no error."""
        for key in keys:
            try:
                await self._store.delete_async(key)
            except (FileNotFoundError, NotFoundError):
                continue


async def _pieces(stream: AsyncIterator[object]) -> AsyncIterator[bytes]:
    async for piece in stream:
        yield bytes(memoryview(piece))  # type: ignore[arg-type]  # obstore's Bytes is a buffer


def _flush(path: Path) -> None:
    """Brings a file, and its name in the folder, to the disk."""
    for place in (path, path.parent):
        descriptor = os.open(place, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
