"""Random changes of inputs that keep so much of their form that they are read to the end.

A change of single bytes breaks a length of protobuf, or a bracket of JSON, and is refused at once. So
messages are taken apart here, changed somewhere inside, and put together again with the right lengths; a text
in JSON that holds a message in hexadecimal or base64 is changed as a message.
"""

import base64
import binascii
import contextlib
import json
import random
from collections.abc import Callable, Sequence
from typing import Any

NUMBERS = (0, 1, 2, 3, 7, 63, 64, 127, 128, 255, 256, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62)
NUMBERS += (2**63 - 1, 2**63, 2**64 - 1)

_DEEPEST = 12
_MOST_BYTES = 64 * 1024

Record = tuple[int, Any]
"""Of protobuf: the key (number and wire type), and a number or bytes."""

Change = Callable[[bytes, Sequence[bytes], random.Random], bytes]
"""Makes an input of another one, maybe with a piece of one of the samples."""


def changed_message(data: bytes, samples: Sequence[bytes], dice: random.Random) -> bytes:
    """Some changes of a protobuf message; now and then of plain bytes."""
    for _ in range(dice.choice((1, 1, 1, 2, 3, 5))):
        data = (
            _in_message(data, samples, dice, 0) if dice.random() < 0.8 else changed_bytes(data, samples, dice)
        )
    return data[:_MOST_BYTES]


def changed_bytes(data: bytes, samples: Sequence[bytes], dice: random.Random) -> bytes:
    """Some bytes replaced, left out, repeated or put in."""
    if not data:
        return dice.randbytes(dice.randrange(9))
    at, size = dice.randrange(len(data)), dice.choice((0, 1, 1, 2, 4, 8, 32))
    piece = dice.choice(
        (
            dice.randbytes(dice.choice((1, 1, 2, 4, 8))),
            b"",
            data[at : at + size] * dice.choice((2, 2, 9)),
            bytes(size),
            b"\xff" * size,
            dice.choice(NUMBERS).to_bytes(8, dice.choice(("little", "big"))),
        )
    )
    return (data[:at] + piece + data[at + size :])[:_MOST_BYTES]


def changed_json(data: bytes, samples: Sequence[bytes], dice: random.Random) -> bytes:
    """Some changes of a JSON value; now and then of plain bytes."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return changed_bytes(dice.choice(samples), samples, dice)
    if dice.random() < 0.05:
        return changed_bytes(data, samples, dice)
    for _ in range(dice.choice((1, 1, 1, 2, 3))):
        value = _in_json(value, samples, dice, 0)
    return json.dumps(value).encode()


# -- protobuf --------------------------------------------------------------------------------------------


def records_of(data: bytes) -> list[Record] | None:
    """A message's records; None when the bytes are none."""
    records, at = list[Record](), 0
    while at < len(data):
        key, at = _read(data, at)
        if not key >> 3 or at < 0:
            return None
        kind = key & 7
        if kind == 0:
            value, at = _read(data, at)
            if at < 0:
                return None
            records.append((key, value))
            continue
        size, at = _read(data, at) if kind == 2 else ({1: 8, 5: 4}.get(kind, -1), at)
        if at < 0 or not 0 <= size <= len(data) - at:
            return None
        records.append((key, data[at : at + size]))
        at += size
    return records


def bytes_of(records: Sequence[Record]) -> bytes:
    """What `records_of` takes apart, put together."""
    parts = []
    for key, value in records:
        parts.append(_varint(key))
        if isinstance(value, int):
            parts.append(_varint(value))
        else:
            parts += [_varint(len(value)), value] if key & 7 == 2 else [value]
    return b"".join(parts)


def _read(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    return 0, -1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _in_message(data: bytes, samples: Sequence[bytes], dice: random.Random, depth: int) -> bytes:
    records = records_of(data) if depth < _DEEPEST else None
    if not records or (depth and dice.random() < 0.1):
        return changed_bytes(data, samples, dice)
    at = dice.randrange(len(records))
    key, value = records[at]
    what = dice.random()
    if isinstance(value, bytes) and key & 7 == 2 and value and what < 0.7:
        records[at] = (key, _in_message(value, samples, dice, depth + 1))
    elif what < 0.8:
        records[at] = (key, _other_scalar(value, dice))
    elif what < 0.85:
        del records[at]
    elif what < 0.9:
        records[at:at] = [records[at]] * dice.choice((1, 1, 2, 30))
    elif what < 0.93:
        records[at] = (dice.randrange(1, 60) << 3 | key & 7, value)
    elif what < 0.96:
        dice.shuffle(records)
    else:
        records.insert(at, _foreign(samples, dice) or records[at])
    return bytes_of(records)


def _other_scalar(value: Any, dice: random.Random) -> Any:
    if isinstance(value, int):
        return dice.choice((*NUMBERS, value + 1, max(value - 1, 0), dice.randrange(2**64)))
    return dice.choice((b"", dice.randbytes(len(value)), b"\xff" * len(value), value[::-1]))


def _foreign(samples: Sequence[bytes], dice: random.Random) -> Record | None:
    """A record from anywhere in another sample."""
    records, found = records_of(dice.choice(samples)), None
    while records:
        found = dice.choice(records)
        inner = found[1]
        records = records_of(inner) if isinstance(inner, bytes) and dice.random() < 0.7 else None
    return found


# -- JSON ------------------------------------------------------------------------------------------------

_VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2**31, 2**63 - 1, 2**63, -(2**63) - 1, 10**30, 0.5, -0.0, 1e308),
    *(float("nan"), float("inf"), "", "a", "\0", "\ud800", "é", "x" * 300, "\n", "1", "true", "latest"),
    *([], {}, [[]], [0] * 20, {"": ""}, {"a": {"b": []}}),
)


def _in_json(value: Any, samples: Sequence[bytes], dice: random.Random, depth: int) -> Any:
    if isinstance(value, dict) and value and dice.random() < 0.85:
        key = dice.choice(list(value))
        return _in_object(value, key, samples, dice, depth)
    if isinstance(value, list) and value and dice.random() < 0.85:
        at = dice.randrange(len(value))
        return [*value[:at], _in_json(value[at], samples, dice, depth + 1), *value[at + 1 :]]
    if isinstance(value, str) and len(value) > 16 and dice.random() < 0.8:
        return _in_text(value, dice)
    if isinstance(value, int | float) and not isinstance(value, bool) and dice.random() < 0.3:
        return dice.choice((value + 1, -value, value * 1000, value / 2))
    return dice.choice(_VALUES)


def _in_object(
    value: dict[str, Any], key: str, samples: Sequence[bytes], dice: random.Random, depth: int
) -> dict[str, Any]:
    what = dice.random()
    if what < 0.07:
        return {name: item for name, item in value.items() if name != key}
    if what < 0.12:
        return {
            (dice.choice(("", "x", key.upper())) if name == key else name): v for name, v in value.items()
        }
    if what < 0.25:
        other = json.loads(dice.choice(samples))
        for _ in range(depth):  # what stands at the same depth of another message
            inner = (
                [item for item in other.values() if isinstance(item, dict)] if isinstance(other, dict) else []
            )
            other = dice.choice(inner) if inner else other
        if isinstance(other, dict) and other:
            name = dice.choice(list(other))
            return value | {name: other[name]}
    return value | {key: _in_json(value[key], samples, dice, depth + 1)}


def _in_text(text: str, dice: random.Random) -> str:
    """A change of the message that a text holds in hexadecimal or base64, or of the text."""
    with contextlib.suppress(ValueError):
        data = bytes.fromhex(text)
        return changed_message(data, [data], dice).hex()
    with contextlib.suppress(ValueError, binascii.Error):
        data = base64.b64decode(text, validate=True)
        return base64.b64encode(changed_message(data, [data], dice)).decode()
    return changed_bytes(text.encode(), (), dice).decode(errors="replace")
