"""Mask streams: AES-256 in counter mode, added to numbers in their rings."""

import dataclasses
from typing import Self

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import NDArray

from fedplan.federation.secure.ring import Residues, Ring

FIGURE_BYTES = 8
"""Of a figure in its ring, the integers modulo 2^64."""

_CHUNK = 1 << 18
"""Bytes of a stream that are made at a time: they stay in the processor's cache until they are added."""

_ZEROS = bytes(_CHUNK)

_BLOCK = 16


@dataclasses.dataclass(frozen=True, slots=True)
class Masked:
    """What a worker reports, or a sum of reports: modulo 2^b, and modulo 2^64.

    Attributes:
        ring: of the vector.
        vector: (values,)
        figures: (figures,), the numbers beside the vector.
    """

    ring: Ring
    vector: Residues
    figures: NDArray[np.uint64]

    @classmethod
    def zeros(cls, ring: Ring, values: int, figures: int) -> Self:
        """The sum of nothing."""
        return cls(ring, ring.zeros(values), np.zeros(figures, "<u8"))

    def add(self, other: "Masked") -> None:
        """Adds another one, in place."""
        np.add(self.vector, other.vector, out=self.vector, casting="unsafe")
        np.add(self.figures, other.figures, out=self.figures)


def keystream(key: bytes, size: int) -> bytes:
    """The first bytes of a key's stream: AES-256-CTR of zeros, the first counter block zero."""
    return _encryptor(key).update(bytes(size))


class MaskStreams:
    """Adds the streams of keys to numbers, through one buffer.

    Of a key's stream, the first 8 bytes for each figure are its numbers modulo 2^64; then follow, 2 or 4
    bytes for each value, those of the vector. All are little-endian.

    Args:
        masked: to whose numbers streams are added, in place.
    """

    def __init__(self, masked: Masked) -> None:
        self._figures = masked.figures
        self._vector = masked.vector
        self._buffer = np.empty(_CHUNK + _BLOCK, np.uint8)  # OpenSSL wants a block more than it writes

    def add(self, key: bytes) -> None:
        """Adds a key's stream."""
        self._apply(key, np.add)

    def subtract(self, key: bytes) -> None:
        """Takes a key's stream away."""
        self._apply(key, np.subtract)

    def _apply(self, key: bytes, operation: np.ufunc) -> None:
        encryptor = _encryptor(key)
        for numbers in (self._figures, self._vector):
            width = numbers.dtype.itemsize
            for begin in range(0, len(numbers), _CHUNK // width):
                part = numbers[begin : begin + _CHUNK // width]
                encryptor.update_into(memoryview(_ZEROS)[: part.nbytes], self._buffer.data)
                operation(part, self._buffer[: part.nbytes].view(part.dtype), out=part)


def _encryptor(key: bytes) -> CipherContext:
    return Cipher(algorithms.AES(key), modes.CTR(bytes(_BLOCK))).encryptor()
