"""Numbers modulo 2^b, and how they are packed."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedplan.errors import SecureAggregationError, SecureMessageError
from fedplan.federation.secure import Ring


def bit_by_bit(numbers: list[int], bits: int) -> bytes:
    """What packing means, in the plainest words."""
    whole = sum(number << (i * bits) for i, number in enumerate(numbers))
    return whole.to_bytes((len(numbers) * bits + 7) // 8, "little")


@given(st.integers(1, 32).flatmap(lambda b: st.tuples(st.just(b), st.lists(st.integers(0, 2**b - 1)))))
def test_packed_numbers_stand_bit_behind_bit_and_come_back(case):
    bits, numbers = case
    ring = Ring(bits)
    packed = ring.pack(np.array(numbers, ring.dtype))

    assert packed == bit_by_bit(numbers, bits)
    assert ring.unpack(packed, len(numbers)).tolist() == numbers


def test_known_bytes():
    assert Ring(12).pack(np.array([0xABC, 0x123], "<u2")).hex() == "bc3a12"
    assert Ring(18).pack(np.array([1, 2, 3], "<u4")).hex() == "010008003000" + "00"


def test_bits_above_the_ring_are_not_sent():
    assert Ring(4).pack(np.array([0xF7, 0x12], "<u2")) == b"\x27"


@pytest.mark.parametrize("data", [b"", b"\x00", bytes(3)])
def test_another_length_is_refused(data):
    with pytest.raises(SecureMessageError, match="3 numbers of 5 bits take 2 bytes"):
        Ring(5).unpack(data, 3)


def test_bits_behind_the_last_number_are_refused():
    with pytest.raises(SecureMessageError, match="bits behind the last number"):
        Ring(5).unpack(b"\x00\x80", 3)


@given(st.integers(2, 32), st.data())
def test_whole_numbers_in_the_middle_of_the_ring_come_back_with_their_signs(bits, data):
    half = 2 ** (bits - 1)
    numbers = data.draw(st.lists(st.integers(-half, half - 1)))
    ring = Ring(bits)

    assert ring.signed(ring.residues(np.array(numbers, np.int64))).tolist() == numbers


def test_sums_wrap_around():
    ring = Ring(6)
    one, other = (ring.residues(np.array([number], np.int64)) for number in (40, -9))

    assert ring.reduced(one + other + ring.residues(np.array([33], np.int64))).tolist() == [0]


@pytest.mark.parametrize("bits", [0, 33])
def test_a_ring_fits_into_32_bits(bits):
    with pytest.raises(SecureAggregationError, match="1 to 32 bits"):
        Ring(bits)
