"""The checksum with which the key of a blob ends: CRC-32, a quarter of a millisecond for a megabyte."""

import asyncio
import re
from zlib import crc32

from fedplan.wire.scalars import Buffer

_MARK = re.compile(r"\.([0-9a-f]{8})$")

_QUICK_BYTES = 1024 * 1024
"""The checksum of so little is computed in less time than a thread takes to get Python's lock."""


def mark_of(data: Buffer) -> str:
    """How the key of these bytes ends."""
    return f".{crc32(data):08x}"


async def mark_in_thread(data: Buffer) -> str:
    """The same, without holding up the event loop."""
    return mark_of(data) if len(data) <= _QUICK_BYTES else await asyncio.to_thread(mark_of, data)


def checksum_in(key: str) -> int | None:
    """The checksum in a key; None in one of an older grid."""
    found = _MARK.search(key)
    return None if found is None else int(found[1], 16)
