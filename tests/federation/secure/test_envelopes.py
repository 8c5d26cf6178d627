"""Encrypted shares, and the known answers of the cipher."""

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.envelopes import ENVELOPE_BYTES, opened, sealed

KEY, MANIFEST, SHARES = bytes(range(32)), b"m" * 32, bytes(range(64))


def test_nist_gcm_cases_14_and_16():
    assert AESGCM(bytes(32)).encrypt(bytes(12), bytes(16), None).hex() == (
        "cea7403d4d606b6e074ec5d3baf39d18" + "d0d1c8a799996bf0265b98b5d48ab919"
    )
    cipher = AESGCM(bytes.fromhex("feffe9928665731c6d6a8f9467308308" * 2)).encrypt(
        bytes.fromhex("cafebabefacedbaddecaf888"),
        bytes.fromhex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        ),
        bytes.fromhex("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
    )
    assert cipher.hex() == (
        "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
        "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662" + "76fc6ece0f4e1768cddf8853bb2d551b"
    )


def test_shares_come_back():
    envelope = sealed(KEY, MANIFEST, 3, 4, SHARES)

    assert len(envelope) == ENVELOPE_BYTES == 80
    assert opened(KEY, MANIFEST, 3, 4, envelope) == SHARES


def test_the_manifest_the_sender_and_the_receiver_are_bound():
    expected = AESGCM(KEY).encrypt(bytes(12), SHARES, MANIFEST + bytes([0, 0, 0, 3, 0, 0, 0, 4]))

    assert sealed(KEY, MANIFEST, 3, 4, SHARES) == expected


@pytest.mark.parametrize(
    ("key", "manifest", "sender", "receiver"),
    [
        (bytes(32), MANIFEST, 3, 4),
        (KEY, b"n" * 32, 3, 4),
        (KEY, MANIFEST, 2, 4),
        (KEY, MANIFEST, 3, 5),
        (KEY, MANIFEST, 4, 3),
    ],
)
def test_what_is_of_another_round_sender_or_receiver_is_refused(key, manifest, sender, receiver):
    with pytest.raises(SecureMessageError, match="not sealed by it"):
        opened(key, manifest, sender, receiver, sealed(KEY, MANIFEST, 3, 4, SHARES))


@pytest.mark.parametrize("place", [0, 40, 79])
def test_a_changed_envelope_is_refused(place):
    envelope = bytearray(sealed(KEY, MANIFEST, 3, 4, SHARES))
    envelope[place] ^= 1
    with pytest.raises(SecureMessageError, match="changed"):
        opened(KEY, MANIFEST, 3, 4, bytes(envelope))


def test_an_envelope_of_another_size_is_refused():
    with pytest.raises(SecureMessageError, match="63 bytes"):
        opened(KEY, MANIFEST, 3, 4, sealed(KEY, MANIFEST, 3, 4, SHARES[1:]))
