"""Sets of workers as bits: worker i is bit i mod 8, counted from the lowest, of byte ⌊i / 8⌋."""

from collections.abc import Collection

from fedplan.errors import SecureMessageError


def bitmap_of(members: Collection[int], workers: int) -> bytes:
    """A set of workers among so many, as bytes."""
    return sum(1 << worker for worker in set(members)).to_bytes(-(-workers // 8), "little")


def members_of(bitmap: bytes, workers: int, what: str) -> frozenset[int]:
    """The set that `bitmap_of` wrote.

    Args:
        bitmap: its bytes.
        workers: how many there are.
        what: how an error calls it.

    Raises:
        SecureMessageError: it is of another number of workers.
    """
    bits = int.from_bytes(bitmap, "little")
    if len(bitmap) != -(-workers // 8) or bits >> workers:
        raise SecureMessageError(f"{what} are not among the {workers} workers of the round")
    return frozenset(worker for worker in range(workers) if bits >> worker & 1)


def pieces(data: bytes, size: int, count: int, what: str) -> list[bytes]:
    """Bytes cut into so many pieces of one size.

    Raises:
        SecureMessageError: there are more or fewer.
    """
    if len(data) != size * count:
        raise SecureMessageError(f"{what} have {len(data)} bytes; {count} of {size} bytes are due")
    return [data[begin : begin + size] for begin in range(0, len(data), size)]
