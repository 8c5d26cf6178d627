"""The scalar types of protobuf that the schema uses, and how each stands on the wire."""

import dataclasses
import functools
import struct
from collections.abc import Callable
from typing import Any

from fedplan.errors import WireError

Buffer = bytes | bytearray | memoryview

VARINT, FIXED64, DELIMITED, FIXED32 = 0, 1, 2, 5
"""Wire types: how the length of a field is found."""


def read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The unsigned varint at `at`, and the position behind it."""
    value = shift = 0
    while True:
        if at >= len(data):
            raise WireError("the message ends inside a number; it was cut short or is not protobuf")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise WireError("a number is longer than ten bytes; the message is damaged or not protobuf")


def write_varint(value: int) -> bytes:
    """`value` as a varint; negative numbers as 64-bit two's complement."""
    value &= 0xFFFF_FFFF_FFFF_FFFF
    if value < 0x80:
        return bytes((value,))
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


@dataclasses.dataclass(frozen=True, slots=True)
class Scalar:
    """How one value of a scalar type stands on the wire."""

    name: str
    wire_type: int
    default: object
    from_wire: Callable[[Any], Any]
    to_wire: Callable[[Any], bytes]


def _signed(bits: int) -> Callable[[int], int]:
    span, half = 1 << bits, 1 << bits - 1

    def convert(raw: int) -> int:
        raw &= span - 1
        return raw - span if raw >= half else raw

    return convert


def _number(form: str) -> Callable[[memoryview], float]:
    return lambda raw: struct.unpack(form, raw)[0]


def text_of(raw: memoryview) -> str:
    """A text field's value."""
    try:
        return str(raw, "utf-8")
    except UnicodeDecodeError as error:
        raise WireError(f"a text field is not UTF-8: {error}") from None


def delimited(raw: Buffer) -> bytes:
    """Bytes with their length before them."""
    return write_varint(len(raw)) + raw


INT32 = Scalar("int32", VARINT, 0, _signed(32), write_varint)
INT64 = Scalar("int64", VARINT, 0, _signed(64), write_varint)
ENUM = Scalar("enum", VARINT, 0, _signed(32), write_varint)
BOOL = Scalar("bool", VARINT, False, bool, write_varint)
FLOAT = Scalar("float", FIXED32, 0.0, _number("<f"), functools.partial(struct.pack, "<f"))
DOUBLE = Scalar("double", FIXED64, 0.0, _number("<d"), functools.partial(struct.pack, "<d"))
STRING = Scalar("string", DELIMITED, "", text_of, lambda text: delimited(text.encode()))
BYTES = Scalar("bytes", DELIMITED, b"", bytes, delimited)

# Elements of a packed field, kept in their wire form as one buffer.
VARINTS = Scalar("packed varints", VARINT, None, bytes, bytes)
FIXED32S = Scalar("packed fixed32", FIXED32, None, bytes, bytes)
FIXED64S = Scalar("packed fixed64", FIXED64, None, bytes, bytes)
PACKED = (VARINTS, FIXED32S, FIXED64S)
"""The types whose elements are kept so."""
