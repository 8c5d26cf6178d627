"""Random messages for the tests, and what it means that two implementations hold the same message."""

import math
import struct

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message as GoogleMessage
from google.protobuf.unknown_fields import UnknownFieldSet
from hypothesis import strategies as st

from fedplan.wire.protobuf import Message
from tests.wire import google

_FLOATS = st.one_of(
    st.floats(width=32),
    st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 1e-45, 3.4028234663852886e38]),
)
_DOUBLES = st.one_of(st.floats(), st.sampled_from([math.nan, -math.inf, -0.0, 5e-324]))
_INTEGERS = {
    kind: st.one_of(
        st.integers(-3, 300) if low < 0 else st.integers(0, 300),
        st.integers(low, high),
        st.sampled_from([low, high, 127, 128, 2**14 - 1, 2**14, 2**28]),
    )
    for kind, (low, high) in google.NUMBERS.items()
}
_SCALARS = {
    **_INTEGERS,
    FieldDescriptor.TYPE_BOOL: st.booleans(),
    FieldDescriptor.TYPE_FLOAT: _FLOATS,
    FieldDescriptor.TYPE_DOUBLE: _DOUBLES,
    FieldDescriptor.TYPE_STRING: st.text(max_size=6),
    FieldDescriptor.TYPE_BYTES: st.binary(max_size=6),
}


@st.composite
def messages(
    draw, kind: type[GoogleMessage], depth: int = 6, skip: frozenset[str] = frozenset(google.NOT_OURS)
):
    """A message of the library's class `kind`, with a few of its fields set."""
    message = kind()
    fields = [
        field
        for field in kind.DESCRIPTOR.fields
        if field.name not in skip and (depth > 0 or field.message_type is None)
    ]
    least = min(len(fields), 2 if depth > 2 else 0)  # the outer messages are never empty
    chosen = (
        st.lists(st.sampled_from(fields), unique=True, min_size=least, max_size=5) if fields else st.just(())
    )
    for field in draw(chosen):
        _fill(draw, message, field, depth - 1, skip)
    return message


def _fill(draw, message, field, depth, skip):
    target = getattr(message, field.name)
    if _is_map(field):
        item = field.message_type.fields_by_name["value"].message_type._concrete_class
        for key in draw(st.lists(st.text(max_size=3), unique=True, max_size=2)):
            target[key].CopyFrom(draw(messages(item, depth, skip)))
    elif field.message_type is not None:
        kind = field.message_type._concrete_class
        if field.is_repeated:
            target.extend(draw(st.lists(messages(kind, depth, skip), max_size=2)))
        else:
            target.CopyFrom(draw(messages(kind, depth, skip)))
            target.SetInParent()
    elif field.is_repeated:
        target.extend(draw(st.lists(_SCALARS[field.type], max_size=4)))
    else:
        setattr(message, field.name, draw(_SCALARS[field.type]))


def _is_map(field):
    return field.message_type is not None and field.message_type.GetOptions().map_entry


def assert_same(ours: Message, theirs: GoogleMessage) -> None:
    """Fails unless both hold the same values in all fields that fedplan knows.

    A map with an entry that holds an unknown field is not compared. By the format's description an entry is a
    message, whose unknown fields are skipped; so fedplan reads it, as Google's libraries for Python alone and
    Go do. Google's C library puts the whole entry among the unknown fields of the message that has the map.
    """
    unknown = {field.field_number for field in UnknownFieldSet(theirs)}
    for field in theirs.DESCRIPTOR.fields:
        if field.name in google.NOT_OURS or (_is_map(field) and field.number in unknown):
            continue
        mine, value = getattr(ours, field.name), getattr(theirs, field.name)
        where = f"{theirs.DESCRIPTOR.name}.{field.name}"
        if _is_map(field):
            assert set(mine) == set(value), where
            for key in value:
                assert_same(mine[key], value[key])
        elif field.message_type is not None and field.is_repeated:
            assert len(mine) == len(value), where
            for one, other in zip(mine, value, strict=True):
                assert_same(one, other)
        elif field.message_type is not None:
            assert (mine is not None) == theirs.HasField(field.name), where
            if mine is not None:
                assert_same(mine, value)
        elif field.name.startswith("contents_") and field.is_repeated:
            assert _elements(mine, field) == [_bits(v) for v in value], where
        elif field.is_repeated:
            assert mine == list(value), where
        elif field.containing_oneof is not None and not theirs.HasField(field.name):
            assert mine is None, where
        else:
            assert _bits(mine) == _bits(value), where


def _bits(value: object) -> object:
    """A value such that NaN equals NaN and −0.0 does not equal 0.0."""
    return ("nan" if math.isnan(value) else struct.pack("<d", value)) if isinstance(value, float) else value


def _elements(packed, field) -> list[object]:
    """The elements of tensor contents, read by the library from their bytes."""
    if field.type in (FieldDescriptor.TYPE_FLOAT, FieldDescriptor.TYPE_DOUBLE):
        storage = "<f4" if field.type == FieldDescriptor.TYPE_FLOAT else "<f8"
        return [_bits(v) for v in np.frombuffer(packed or b"", storage).astype(float).tolist()]
    body = bytes(packed or b"")
    tensor = google.PACKED["TensorData"].FromString(record(field.number, body))
    return list(getattr(tensor, field.name))


def varint(value: int) -> bytes:
    """An unsigned number as a varint."""
    digits = [value >> shift & 0x7F for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([*(digit | 0x80 for digit in digits[:-1]), digits[-1]])


def record(number: int, body: bytes) -> bytes:
    """A length-delimited field."""
    return varint(number << 3 | 2) + varint(len(body)) + body
