"""Messages of a secure round are read whole or not at all."""

import pytest

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.bitmaps import bitmap_of, members_of, pieces
from fedplan.federation.secure.messages import ListsMessage, WorkerMessage, read, written

LISTS = written(ListsMessage(reported=b"\x05", missing=b"\x02"))


def test_a_message_is_protobuf_with_the_version_first():
    assert bytes([1 << 3, 1, 2 << 3 | 2, 1, 5, 3 << 3 | 2, 1, 2]) == LISTS
    assert read(ListsMessage, LISTS, "the lists").reported == b"\x05"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (LISTS[:-1], "the lists cannot be read"),
        (b"\x08\x02" + LISTS[2:], "of version 2 of secure aggregation, and this is version 1"),
        (LISTS[2:], "of version 0"),
        (b"", "of version 0"),
        (LISTS + bytes([9 << 3, 1]), "does not know"),
        (LISTS[:2] + LISTS[5:] + LISTS[2:5], "does not know"),  # another order of the fields
        (LISTS[:1] + b"\x81\x00" + LISTS[2:], "does not know"),  # a longer way to write 1
    ],
)
def test_what_is_damaged_of_another_version_or_holds_more_is_refused(data, why):
    with pytest.raises(SecureMessageError, match=why):
        read(ListsMessage, data, "the lists")


def test_what_a_worker_keeps_can_be_told_from_other_messages():
    with pytest.raises(SecureMessageError):
        read(WorkerMessage, LISTS + b"\x1a", "the state of a worker")


@pytest.mark.parametrize(
    ("members", "workers", "bitmap"), [((), 3, "00"), ((0, 2), 3, "05"), ((8,), 9, "0001")]
)
def test_a_set_of_workers_is_one_bit_for_each(members, workers, bitmap):
    assert bitmap_of(members, workers).hex() == bitmap
    assert members_of(bytes.fromhex(bitmap), workers, "they") == frozenset(members)


@pytest.mark.parametrize("bitmap", ["", "0000", "08"])
def test_a_set_of_other_workers_is_refused(bitmap):
    with pytest.raises(SecureMessageError, match="they are not among the 3 workers"):
        members_of(bytes.fromhex(bitmap), 3, "they")


def test_pieces_are_of_one_size_and_as_many_as_are_due():
    assert pieces(b"abcdef", 2, 3, "they") == [b"ab", b"cd", b"ef"]
    with pytest.raises(SecureMessageError, match="they have 5 bytes; 3 of 2 bytes are due"):
        pieces(b"abcde", 2, 3, "they")
