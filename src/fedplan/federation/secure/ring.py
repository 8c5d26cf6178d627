"""Arithmetic modulo 2^b, in which masked numbers are added, and how such numbers are packed."""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedplan.errors import SecureAggregationError, SecureMessageError

Residues = NDArray[np.uint16] | NDArray[np.uint32]
"""Numbers of a ring. Bits above the ring's may be set until `Ring.reduced` clears them."""

MOST_BITS = 32
"""No ring has more: its numbers are uint32 in memory."""

_GROUP = 8
"""So many values fill whole bytes, whatever their width."""


@dataclasses.dataclass(frozen=True, slots=True)
class Ring:
    """The integers modulo 2^bits.

    Attributes:
        bits: 1 to 32. A number takes so many on the wire, and 16 or 32 in memory.

    Raises:
        SecureAggregationError: another number of bits.
    """

    bits: int

    def __post_init__(self) -> None:
        if not 1 <= self.bits <= MOST_BITS:
            raise SecureAggregationError(
                f"a ring has 1 to {MOST_BITS} bits, not {self.bits}: quantise to fewer bits a value"
            )

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of its numbers in memory: little-endian uint16 or uint32."""
        return np.dtype("<u2" if self.bits <= 16 else "<u4")

    def zeros(self, count: int) -> Residues:
        """So many zeros."""
        return np.zeros(count, self.dtype)

    def residues(self, values: NDArray[np.int64]) -> Residues:
        """Whole numbers modulo 2^bits."""
        return self.reduced(values.astype(self.dtype))

    def reduced(self, numbers: Residues) -> Residues:
        """The numbers without the bits above the ring's."""
        return numbers & numbers.dtype.type((1 << self.bits) - 1)

    def signed(self, numbers: Residues) -> NDArray[np.int64]:
        """The whole numbers from −2^(bits−1) to 2^(bits−1) − 1 that the residues stand for."""
        values = self.reduced(numbers).astype(np.int64)
        values[values >= 1 << (self.bits - 1)] -= 1 << self.bits
        return values

    def packed_size(self, count: int) -> int:
        """Bytes of so many packed numbers."""
        return (count * self.bits + 7) // 8

    def pack(self, numbers: Residues) -> bytes:
        """The numbers, `bits` bits each, one behind the other.

        Number i is in bits i·b to (i + 1)·b − 1, its lowest bit first; bit j of the whole is bit j mod 8,
        counted from the lowest, of byte ⌊j / 8⌋. Bits that are left over in the last byte are 0.
        """
        groups = self._grouped(self.reduced(numbers))  # (groups, 8)
        packed = np.zeros((len(groups), self.bits), np.uint8)
        for column in range(_GROUP):
            self._put(packed, column, groups[:, column])
        return packed.tobytes()[: self.packed_size(len(numbers))]

    def unpack(self, data: bytes | memoryview, count: int) -> Residues:
        """Reads what `pack` wrote.

        Raises:
            SecureMessageError: it is not as long as so many numbers, or bits that are left over are set.
        """
        if len(data) != self.packed_size(count):
            raise SecureMessageError(
                f"{count} numbers of {self.bits} bits take {self.packed_size(count)} bytes, not {len(data)}"
            )
        spare = 8 * len(data) - count * self.bits
        if spare and data[-1] >> (8 - spare):
            raise SecureMessageError("bits behind the last number are set; the message is damaged")
        groups = -(-count // _GROUP)
        padded = np.zeros(
            max(groups, 1) * self.bits + _GROUP, np.uint8
        )  # a word may be read behind the last byte
        padded[: len(data)] = np.frombuffer(data, np.uint8)
        numbers = np.empty((groups, _GROUP), self.dtype)
        for column in range(_GROUP):
            begin, shift = divmod(column * self.bits, 8)
            width = "<u4" if shift + self.bits <= 32 else "<u8"
            words = np.ndarray((groups,), width, padded, begin, (self.bits,))
            numbers[:, column] = (words >> shift) & ((1 << self.bits) - 1)
        return numbers.reshape(-1)[:count]

    def _grouped(self, numbers: Residues) -> NDArray[np.uint64]:
        groups = -(-len(numbers) // _GROUP)
        padded = np.zeros(groups * _GROUP, np.uint64)
        padded[: len(numbers)] = numbers
        return padded.reshape(groups, _GROUP)

    def _put(self, packed: NDArray[np.uint8], column: int, values: NDArray[np.uint64]) -> None:
        begin, shift = divmod(column * self.bits, 8)
        shifted = values << np.uint64(shift)
        for place in range(-(-(shift + self.bits) // 8)):
            packed[:, begin + place] |= (shifted >> np.uint64(8 * place)).astype(np.uint8)
