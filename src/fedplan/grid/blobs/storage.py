"""What a blob store must be able to do."""

import dataclasses
from collections.abc import AsyncIterator
from typing import Protocol

from fedplan.wire.scalars import Buffer

Stream = tuple[int, AsyncIterator[bytes]]
"""How many bytes there are, and they in pieces."""


def whole(data: bytes) -> Stream:
    """A stream of bytes that are there already."""
    return len(data), _only(data)


async def _only(data: bytes) -> AsyncIterator[bytes]:
    yield data


@dataclasses.dataclass(frozen=True, slots=True)
class Listed:
    """A blob that is there.

    Attributes:
        key: its key.
        modified: when it was stored, in seconds since 1970, by the clock of the storage.
    """

    key: str
    modified: float


class Storage(Protocol):
    """Where blobs are kept. What reads one raises FileNotFoundError when there is none of that key."""

    async def put(self, key: str, data: Buffer) -> None:
        """Stores bytes, on disk before it returns. The key may be one that `add` of another storage gave."""

    async def add(self, group: str, data: Buffer, mark: str) -> str:
        """Stores bytes with others of a group, on disk before it returns.

        Gives their key, which ends in the mark.
        """

    async def get(self, key: str) -> bytes:
        """All bytes of a blob."""

    async def stream(self, key: str) -> Stream:
        """The size of a blob, and its bytes in pieces."""

    async def delete(self, keys: tuple[str, ...]) -> None:
        """Deletes blobs that were put; one that is gone already is no error."""

    async def names(self, group: str) -> list[str]:
        """The keys of a group's blobs that were put."""

    def listed(self, group: str) -> AsyncIterator[Listed]:
        """A group's blobs that were put, with what is left of such as were not finished."""

    async def is_empty(self) -> bool:
        """Whether there is nothing at all."""

    async def groups(self, parent: str) -> list[str]:
        """The last parts of the names of the groups below another."""

    async def drop(self, group: str) -> None:
        """Deletes all blobs of a group, whoever added them."""

    async def aclose(self) -> None:
        """Ends all work."""
