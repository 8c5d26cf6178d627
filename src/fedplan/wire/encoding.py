"""The content coding zstd (RFC 8878, RFC 9659): who takes it, how it is written, how it is read."""

import re
import sys
from collections.abc import Iterator

from fedplan.errors import WireError
from fedplan.wire.scalars import Buffer

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

ZSTD = "zstd"

PIECE_BYTES = 1024 * 1024
"""Most bytes that are read at once."""

_WEIGHT = re.compile(r"[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*")

_LIMITS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: 23}
"""A window of 8 MiB, the largest that HTTP allows: the reader must hold it."""


def takes_zstd(accept_encoding: str) -> bool:
    """Whether an Accept-Encoding names zstd, and does not like the bytes as they are better.

    A `*` does not name it: whoever writes that may never have heard of zstd.
    """
    text = accept_encoding.lower()
    if ZSTD not in text:
        return False
    weights: dict[str, float] = {}
    for element in text.split(","):
        coding, parameter, weight = element.partition(";")
        found = _WEIGHT.fullmatch(weight)
        weights[coding.strip()] = float(found[1]) if found else 0.0 if parameter else 1.0
    wanted = weights.get(ZSTD, 0.0)
    return wanted > 0 and wanted >= weights.get("identity", 0.0)


def to_zstd(data: Buffer) -> bytes:
    """The bytes as one zstd frame; other threads run meanwhile."""
    return zstd.compress(data)


class ZstdReader:
    """Reads zstd as it comes, and hands out what it holds in pieces of bounded size.

    A few bytes may stand for gigabytes. Whoever counts the pieces can stop before they fill the memory.
    """

    def __init__(self) -> None:
        self._frame: zstd.ZstdDecompressor | None = None  # None between two frames

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """What some more bytes hold, at most `PIECE_BYTES` at once; a piece may be empty.

        Raises:
            WireError: they are no zstd, or need a larger window than HTTP allows.
        """
        try:
            while data or self._frame is not None:
                self._frame = self._frame or zstd.ZstdDecompressor(options=_LIMITS)
                yield self._frame.decompress(data, PIECE_BYTES)
                if self._frame.needs_input:
                    return
                data = b""
                if self._frame.eof:
                    data, self._frame = self._frame.unused_data, None
        except zstd.ZstdError as error:
            raise WireError(f"the bytes are not zstd as it is sent over HTTP: {error}") from None

    def end(self) -> None:
        """Says that no more bytes come.

        Raises:
            WireError: the last frame is not whole.
        """
        if self._frame is not None:
            raise WireError("the zstd ends too early")
