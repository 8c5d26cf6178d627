"""Protocol Buffers' wire format, for messages written as dataclasses.

Why not the protobuf library: it copies a tensor's bytes twice on reading and three to four times on
writing, and hands out a Python object per element of a ``repeated float``. Here a packed field stays one
memoryview into the received bytes, and a written one is joined into the result once. The tests hold this
module against that library, message by message and with random messages.

A message is a dataclass whose fields are declared with `field`::

    @message
    class Size(Message):
        dims: list[int] = field(1, INT32, repeated=True)

Encoding writes fields in the order of their numbers, repeated numbers packed, absent fields not at all:
the bytes are those that the protobuf library writes. Fields that the schema does not know are skipped.
Encoding: https://protobuf.dev/programming-guides/encoding/
"""

import dataclasses
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from fedplan.errors import WireError
from fedplan.wire.scalars import (
    DELIMITED,
    DOUBLE,
    FIXED32,
    FIXED64,
    FLOAT,
    PACKED,
    STRING,
    VARINT,
    Buffer,
    Scalar,
    delimited,
    read_varint,
    text_of,
    write_varint,
)

MAX_DEPTH = 64
"""Levels of nesting that are read; a real Plan has fewer than twenty."""

MAX_VALUES = 500_000
"""Values of one message that become Python objects, or are skipped. A Plan of 10,000 actions has some
150,000; a hostile message could otherwise turn each two of its bytes into an object of several hundred."""


@dataclasses.dataclass(frozen=True, slots=True)
class _Spec:
    """One field of a message: its number, its type, and how often it stands there."""

    number: int
    kind: Scalar | Callable[[], "type[Message]"]
    repeated: bool
    mapped: bool
    oneof: str | None


def field(
    number: int,
    kind: Scalar | Callable[[], "type[Message]"],
    *,
    repeated: bool = False,
    mapped: bool = False,
    oneof: str | None = None,
) -> Any:
    """Declares a field of a message.

    Args:
        number: the field's number in the schema.
        kind: a `Scalar`, or a function that returns the message class (classes may refer to each other).
        repeated: a list of values. Lists of numbers are written packed and read packed or not.
        mapped: a dict from string to message.
        oneof: name of the group of which only one field is set. Such a field is None when absent, and is
            written also when it holds its type's default.
    """
    spec = _Spec(number, kind, repeated, mapped, oneof)
    metadata = {"protobuf": spec}
    if mapped:
        return dataclasses.field(default_factory=dict, metadata=metadata)
    if repeated:
        return dataclasses.field(default_factory=list, metadata=metadata)
    absent = kind.default if isinstance(kind, Scalar) and oneof is None else None
    return dataclasses.field(default=absent, metadata=metadata)


class _Allowance:
    """How many more values one `decode` may turn into Python objects."""

    __slots__ = ("left", "most")

    def __init__(self, most: int) -> None:
        self.left = self.most = most

    def take(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise WireError(f"the message holds more than {self.most} values; no Plan or State needs so many")


class Message:
    """Base of all messages; see `message`."""

    __slots__ = ()
    _fields: ClassVar[tuple[tuple[str, _Spec], ...]]
    _by_number: ClassVar[dict[int, tuple[str, _Spec]]]
    _oneofs: ClassVar[dict[str, tuple[str, ...]]]

    if TYPE_CHECKING:  # `message` makes the real one; every field has a default

        def __init__(self, **values: Any) -> None: ...

    @classmethod
    def decode(cls, data: Buffer, most_values: int = MAX_VALUES) -> Self:
        """Reads a message. Packed tensor contents are views into `data`, which they keep alive.

        Args:
            data: the bytes.
            most_values: values that may become Python objects; it bounds the time, at about 1 µs for each.

        Raises:
            WireError: `data` is not such a message.
        """
        if not isinstance(data, Buffer):
            raise WireError(f"a message is read from bytes, not from a {type(data).__name__}")
        result, allowance = cls(), _Allowance(min(most_values, MAX_VALUES))
        result._merge(memoryview(data).toreadonly().cast("B"), allowance, 0)
        return result

    def _merge(self, data: memoryview, allowance: "_Allowance", depth: int) -> None:
        """Reads `data` into this message. A message that comes in pieces is the sum of its pieces."""
        if depth > MAX_DEPTH:
            raise WireError(f"messages are nested more than {MAX_DEPTH} deep")
        for number, wire_type, raw in _records(data):
            known = self._by_number.get(number)
            if known is None:
                allowance.take()  # what is skipped takes time too
            else:
                _store(self, *known, wire_type, raw, allowance, depth)

    def encode(self) -> bytes:
        """The message as bytes: the same that the protobuf library writes."""
        parts: list[Buffer] = []
        self._encode_into(parts)
        return b"".join(parts)

    def _encode_into(self, parts: list[Buffer]) -> int:
        """Appends the pieces of the encoded message to `parts` and returns how many bytes they are."""
        size = 0
        for name, spec in self._fields:
            value = getattr(self, name)
            if spec.mapped:
                for key, item in value.items():
                    entry: list[Buffer] = [b"\x0a" + STRING.to_wire(key)]
                    entry_size = len(entry[0]) + _put_message(entry, 2, item)
                    head = write_varint(spec.number << 3 | DELIMITED) + write_varint(entry_size)
                    parts += [head, *entry]
                    size += len(head) + entry_size
            elif spec.repeated:
                size += _put_list(parts, spec, value)
            elif value is None or (spec.oneof is None and _is_default(spec.kind, value)):
                continue  # proto3 leaves it out
            elif isinstance(spec.kind, Scalar):
                size += _put_scalar(parts, spec, spec.kind, value)
            else:
                size += _put_message(parts, spec.number, value)
        return size

    def which(self, oneof: str) -> str | None:
        """Name of the field that is set in the group `oneof`, or None."""
        return next((name for name in self._oneofs[oneof] if getattr(self, name) is not None), None)


def _is_default(kind: object, value: Any) -> bool:
    return (
        isinstance(kind, Scalar)
        and not value
        and not (kind in (FLOAT, DOUBLE) and math.copysign(1.0, value) < 0)
    )


def _put_message(parts: list[Buffer], number: int, value: Message) -> int:
    at = len(parts)
    parts.append(b"")  # the head's place: its length is known only after the body
    body = value._encode_into(parts)
    head = write_varint(number << 3 | DELIMITED) + write_varint(body)
    parts[at] = head
    return len(head) + body


def _put_scalar(parts: list[Buffer], spec: _Spec, kind: Scalar, value: Any) -> int:
    if kind in PACKED:
        head = write_varint(spec.number << 3 | DELIMITED) + write_varint(len(value))
        parts += [head, value]
        return len(head) + len(value)
    piece = write_varint(spec.number << 3 | kind.wire_type) + kind.to_wire(value)
    parts.append(piece)
    return len(piece)


def _put_list(parts: list[Buffer], spec: _Spec, values: list[Any]) -> int:
    if not values:
        return 0
    if not isinstance(spec.kind, Scalar):
        return sum(_put_message(parts, spec.number, value) for value in values)
    if spec.kind.wire_type == DELIMITED:
        return sum(_put_scalar(parts, spec, spec.kind, value) for value in values)
    piece = delimited(b"".join(map(spec.kind.to_wire, values)))
    piece = write_varint(spec.number << 3 | DELIMITED) + piece
    parts.append(piece)
    return len(piece)


def _records(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """The (field number, wire type, raw value) triples of a message: ints for varints, views for the rest."""
    at, end = 0, len(data)
    while at < end:
        key, at = read_varint(data, at)
        number, wire_type = key >> 3, key & 7
        if not 0 < number < 1 << 29:
            raise WireError(f"a field has the number {number}; the message is damaged or not protobuf")
        if wire_type == VARINT:
            value, at = read_varint(data, at)
            yield number, wire_type, value
            continue
        if wire_type == DELIMITED:
            length, at = read_varint(data, at)
        elif wire_type == FIXED32:
            length = 4
        elif wire_type == FIXED64:
            length = 8
        else:
            raise WireError(f"a field has the wire type {wire_type}, which proto3 does not use")
        if length > end - at:
            raise WireError(
                f"a field claims {length} bytes where only {end - at} are left; the message was cut short"
            )
        yield number, wire_type, data[at : at + length]
        at += length


def count(data: Buffer, *path: int) -> int:
    """How often a field stands in a message, without reading what is in it: 0.5 µs for each field passed.

    Args:
        data: the message.
        path: numbers of fields, each of the messages in the one before; the last one is counted.

    Raises:
        WireError: `data` is no message.
    """
    number, *deeper = path
    found = 0
    for other, wire_type, raw in _records(memoryview(data).toreadonly().cast("B")):
        if other == number and not deeper:
            found += 1
        elif other == number and wire_type == DELIMITED:
            found += count(raw, *deeper)
    return found


def _store(
    result: Message, name: str, spec: _Spec, wire_type: int, raw: Any, allowance: _Allowance, depth: int
) -> None:
    """Puts one record into the message that is being read."""
    kind = spec.kind
    value: Any
    allowance.take()  # contents, too: they may come in very many pieces, or element by element
    if isinstance(kind, Scalar) and kind in PACKED:
        value = _packed(getattr(result, name), kind, wire_type, raw, name)
        setattr(result, name, value)
        return
    if spec.mapped:
        key, item = _map_entry(_expect(raw, wire_type, DELIMITED, name), _class_of(spec), allowance, depth)
        getattr(result, name)[key] = item
        return
    if not isinstance(kind, Scalar):
        value = (None if spec.repeated else getattr(result, name)) or kind()()
        value._merge(_expect(raw, wire_type, DELIMITED, name), allowance, depth + 1)
    elif spec.repeated and wire_type == DELIMITED and kind.wire_type != DELIMITED:
        getattr(result, name).extend(_unpack(raw, kind, allowance))
        return
    else:
        value = kind.from_wire(_expect(raw, wire_type, kind.wire_type, name))
    if spec.repeated:
        getattr(result, name).append(value)
        return
    if spec.oneof is not None:  # the last one on the wire wins
        for other in result._oneofs[spec.oneof]:
            setattr(result, other, None)
    setattr(result, name, value)


def _expect(raw: Any, wire_type: int, expected: int, name: str) -> Any:
    if wire_type != expected:
        raise WireError(f"the field '{name}' has the wire type {wire_type} instead of {expected}")
    return raw


def _class_of(spec: _Spec) -> type[Message]:
    return cast("Callable[[], type[Message]]", spec.kind)()


def _map_entry(
    data: memoryview, kind: type[Message], allowance: _Allowance, depth: int
) -> tuple[str, Message]:
    key, item = "", kind()
    for number, wire_type, raw in _records(data):
        allowance.take()  # a key or a value may stand there again and again
        if number == 1:
            key = text_of(_expect(raw, wire_type, DELIMITED, "key"))
        elif number == 2:
            item._merge(_expect(raw, wire_type, DELIMITED, "value"), allowance, depth + 1)
    return key, item


def _unpack(raw: memoryview, kind: Scalar, allowance: _Allowance) -> Iterator[Any]:
    """The elements of a packed list of numbers; all such lists of this schema hold varints."""
    at = 0
    while at < len(raw):
        allowance.take()
        value, at = read_varint(raw, at)
        yield kind.from_wire(value)


def _packed(before: Buffer | None, kind: Scalar, wire_type: int, raw: Any, name: str) -> Buffer:
    """Tensor contents as one buffer, also when they come in pieces or element by element."""
    if wire_type == DELIMITED:
        piece: Buffer = raw
    else:
        _expect(raw, wire_type, kind.wire_type, name)
        piece = write_varint(raw) if wire_type == VARINT else raw
    if before is None:
        return piece
    joined = before if isinstance(before, bytearray) else bytearray(before)
    joined += piece
    return joined


_M = TypeVar("_M", bound=Message)


def message(cls: type[_M]) -> type[_M]:
    """Turns a class of `field` declarations into a message."""
    made = dataclasses.dataclass(slots=True)(cls)
    specs = [(f.name, cast("_Spec", f.metadata["protobuf"])) for f in dataclasses.fields(cast("Any", made))]
    made._fields = tuple(sorted(specs, key=lambda item: item[1].number))
    made._by_number = {spec.number: (name, spec) for name, spec in specs}
    groups: dict[str, list[str]] = {}
    for name, spec in specs:
        if spec.oneof is not None:
            groups.setdefault(spec.oneof, []).append(name)
    made._oneofs = {group: tuple(names) for group, names in groups.items()}
    return made
