"""The known answers that other implementations run are those of this one."""

import json

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedplan.federation.secure.keys import mask_pair
from fedplan.federation.secure.shamir import PRIME
from tests.federation.secure.vectors import FILE, text

STORED = json.loads(FILE.read_text())


def test_the_file_is_what_its_generator_writes():
    assert FILE.read_text() == text(), "python -m tests.federation.secure.vectors writes it again"


@pytest.mark.parametrize("made", STORED["rounds"], ids=lambda made: made["trust"])
def test_the_numbers_that_are_drawn_make_the_keys_and_the_secrets(made):
    """Read by the plainest means: the first 32 bytes are the mask seed, the next ones the share key."""
    for drawn, keys in zip(made["drawn"], made["keys"], strict=True):
        raw = bytes.fromhex(drawn)
        assert len(raw) == 32 * (3 + 2 * (made["threshold"] - 1))
        assert int.from_bytes(raw[:32], "big") < PRIME
        public = mask_pair(raw[:32]).public_key().public_bytes_raw()
        shared = X25519PrivateKey.from_private_bytes(raw[32:64]).public_key().public_bytes_raw()
        assert public.hex() in keys
        assert shared.hex() in keys


def hkdf(secret, salt, info):
    return HKDF(algorithm=SHA256(), length=32, salt=salt, info=b"fedplan secure 1 " + info).derive(secret)


def stream(key, size):
    return Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor().update(bytes(size))


@pytest.mark.parametrize("made", STORED["rounds"], ids=lambda made: made["trust"])
@pytest.mark.parametrize("worker", [0, 1, 3, 4])
def test_a_report_is_what_the_page_says(made, worker):
    """docs/privacy.md step by step, in plain Python: values and figures, plus and minus masks, packed."""
    drawn = [bytes.fromhex(raw) for raw in made["drawn"]]
    pairs = [X25519PrivateKey.from_private_bytes(hkdf(raw[:32], b"", b"mask key pair")) for raw in drawn]
    digest = bytes.fromhex(made["manifest_digest"])
    number = worker.to_bytes(4, "big")
    masks = [(1, hkdf(drawn[worker][64:96], digest, b"self mask" + number))]
    for other in set(range(5)) - {worker}:
        both = b"".join(n.to_bytes(4, "big") for n in sorted((worker, other)))
        common = pairs[worker].exchange(pairs[other].public_key())
        masks.append((1 if other > worker else -1, hkdf(common, digest, b"pairwise mask" + both)))
    values, figures = list(made["values"][worker]), list(map(int, made["figures"][worker]))
    for sign, key in masks:
        words = stream(key, 8 * len(figures) + 2 * len(values))  # a ring of 8 + 3 bits: two bytes a value
        for place in range(len(figures)):
            figures[place] += sign * int.from_bytes(words[8 * place : 8 * place + 8], "little")
        for place in range(len(values)):
            at = 8 * len(figures) + 2 * place
            values[place] += sign * int.from_bytes(words[at : at + 2], "little")
    whole = sum((value % 2**11) << (11 * place) for place, value in enumerate(values))
    packed = whole.to_bytes((11 * len(values) + 7) // 8, "little")
    told = b"".join((figure % 2**64).to_bytes(8, "little") for figure in figures)
    report = b"\x08\x01" + bytes([0x12, len(packed)]) + packed + bytes([0x1A, len(told)]) + told

    assert bytes.fromhex(made["reports"][str(worker)]).startswith(report)


@pytest.mark.parametrize("made", STORED["rounds"], ids=lambda made: made["trust"])
def test_the_sum_is_that_of_the_reports(made):
    survivors = [int(number) for number in made["reports"]]
    assert survivors == [0, 1, 3, 4]
    columns = zip(*(made["values"][number] for number in survivors), strict=True)
    assert made["sum_values"] == [sum(column) for column in columns]
    figures = zip(*(map(int, made["figures"][number]) for number in survivors), strict=True)
    assert made["sum_figures"] == [str(sum(column)) for column in figures]
