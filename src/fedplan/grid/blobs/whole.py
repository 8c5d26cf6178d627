"""A whole model out of its two States: the tensors that are frozen, and those of a checkpoint.

What never changes is stored once, and not with each checkpoint. Who asks for the whole model gets the bytes
of one State, put together while they are sent: each tensor is a record, whose bytes are the same there.
"""

from collections.abc import AsyncIterator, Sequence

from fedplan.errors import WireError
from fedplan.grid.blobs.storage import Stream
from fedplan.wire.scalars import read_varint
from fedplan.wire.state import head_of

_TENSORS = 2
"""Number of a State's field that holds its tensors; they stand behind all else."""

_LONGEST_HEAD = 20  # bytes: two varints

_PIECE_BYTES = 256 * 1024
"""Small tensors are sent together."""


async def joined(frozen: Stream, changing: Stream, changes: Sequence[bool]) -> Stream:
    """The State of a whole model, as its size and its bytes in pieces.

    Args:
        frozen: the State of the tensors that are frozen.
        changing: the State of the others.
        changes: of each tensor of the model, whether it is one of the others.

    Raises:
        WireError: one of the two is damaged at its beginning.
    """
    head = head_of(len(changes))
    parts = {False: _Records(frozen), True: _Records(changing)}
    size = len(head)
    for part in parts.values():
        size += await part.skip_to(_TENSORS)
    return size, _gathered(_pieces(head, [parts[change] for change in changes]))


async def _pieces(head: bytes, order: "Sequence[_Records]") -> AsyncIterator[bytes]:
    yield head
    for part in order:
        async for piece in part.next():
            yield piece


async def _gathered(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The same bytes in fewer pieces."""
    held, size = list[bytes](), 0
    async for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= _PIECE_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


class _Records:
    """The records of a message, one after the other, as its bytes come. All have a length."""

    def __init__(self, message: Stream) -> None:
        self._left, self._coming = message  # bytes that were not handed on; those of them that are to come
        self._here = memoryview(b"")

    async def skip_to(self, field: int) -> int:
        """Goes to the first record of a field; returns how many bytes are left from there on."""
        while self._left and (await self._head())[0] != field:
            async for _ in self.next():
                pass
        return self._left

    async def next(self) -> AsyncIterator[bytes]:
        """The bytes of the next record, in pieces."""
        _, head, content = await self._head()
        left = head + content
        while left:
            if not self._here:
                await self._more()
            piece, self._here = self._here[:left], self._here[left:]
            self._left -= len(piece)
            left -= len(piece)
            yield bytes(piece)

    async def _head(self) -> tuple[int, int, int]:
        """Of the next record: the field's number, the bytes before its content, the bytes of its content."""
        while len(self._here) < min(_LONGEST_HEAD, self._left):
            await self._more()
        key, at = read_varint(self._here, 0)
        content, at = read_varint(self._here, at)
        return key >> 3, at, content

    async def _more(self) -> None:
        piece = await anext(self._coming, None)
        if piece is None:
            raise WireError("a stored model is cut short")
        self._here = memoryview(bytes(self._here) + piece if self._here else piece)
