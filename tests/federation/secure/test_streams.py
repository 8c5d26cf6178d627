"""Mask streams, and the known answers of the cipher that makes them."""

import numpy as np
import pytest

from fedplan.federation.secure import Masked, MaskStreams, Ring, keystream
from fedplan.federation.secure.streams import _CHUNK

KEY = bytes(range(32))


def test_nist_sp_800_38a_f_5_5():
    """The example begins at another counter block: block i of a stream is the key's AES of i."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    key = bytes.fromhex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4")
    plain = bytes.fromhex(
        "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51"
        "30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710"
    )
    cipher = bytes.fromhex(
        "601ec313775789a5b7a7f504bbf3d228f443e3ca4d62b59aca84e990cacaf5c5"
        "2b0930daa23de94ce87017ba2d84988ddfc9c58db67aada613c2dd08457941a6"
    )
    counter = bytes.fromhex("f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff")
    assert Cipher(algorithms.AES(key), modes.CTR(counter)).encryptor().update(plain) == cipher

    ecb = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    blocks = b"".join(ecb.update(i.to_bytes(16, "big")) for i in range(300))  # the counter carries at 256
    assert keystream(key, len(blocks)) == blocks


@pytest.mark.parametrize("bits", [12, 18])
@pytest.mark.parametrize("values", [0, 5, 1000, _CHUNK // 4, _CHUNK // 2 + 7])
@pytest.mark.parametrize("figures", [0, 1, 3])
def test_a_stream_is_the_figures_and_then_the_vector(bits, values, figures):
    masked = Masked.zeros(Ring(bits), values, figures)
    MaskStreams(masked).add(KEY)

    whole = masked.figures.tobytes() + masked.vector.tobytes()
    assert whole == keystream(KEY, len(whole))


def test_what_is_added_and_taken_away_is_as_before():
    masked = Masked(Ring(10), np.arange(1000).astype("<u2"), np.array([2**64 - 1], "<u8"))
    streams = MaskStreams(masked)
    streams.add(KEY)
    assert masked.vector.tolist() != list(range(1000))
    streams.subtract(KEY)

    assert masked.vector.tolist() == list(range(1000))
    assert masked.figures.tolist() == [2**64 - 1]


def test_reports_add_in_their_rings():
    total = Masked.zeros(Ring(4), 1, 1)
    for number in (9, 9):
        total.add(Masked(Ring(4), np.array([number], "<u2"), np.array([2**63], "<u8")))

    assert Ring(4).reduced(total.vector).tolist() == [2]
    assert total.figures.tolist() == [0]
