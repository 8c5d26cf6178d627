"""The known answers that other implementations run are those of this one."""

import json

import pytest

from fedplan.federation.secure.shamir import PRIME
from tests.federation.secure.vectors import FILE, text

STORED = json.loads(FILE.read_text())


def test_the_file_is_what_its_generator_writes():
    assert FILE.read_text() == text(), "python -m tests.federation.secure.vectors writes it again"


@pytest.mark.parametrize("made", STORED["rounds"], ids=lambda made: made["trust"])
def test_the_numbers_that_are_drawn_make_the_keys_and_the_secrets(made):
    """Read by the plainest means: the first 32 bytes are the mask seed, the next ones the share key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    from fedplan.federation.secure.keys import mask_pair

    for drawn, keys in zip(made["drawn"], made["keys"], strict=True):
        raw = bytes.fromhex(drawn)
        assert len(raw) == 32 * (3 + 2 * (made["threshold"] - 1))
        assert int.from_bytes(raw[:32], "big") < PRIME
        public = mask_pair(raw[:32]).public_key().public_bytes_raw()
        shared = X25519PrivateKey.from_private_bytes(raw[32:64]).public_key().public_bytes_raw()
        assert public.hex() in keys
        assert shared.hex() in keys


@pytest.mark.parametrize("made", STORED["rounds"], ids=lambda made: made["trust"])
def test_the_sum_is_that_of_the_reports(made):
    survivors = [int(number) for number in made["reports"]]
    assert survivors == [0, 1, 3, 4]
    columns = zip(*(made["values"][number] for number in survivors), strict=True)
    assert made["sum_values"] == [sum(column) for column in columns]
    figures = zip(*(map(int, made["figures"][number]) for number in survivors), strict=True)
    assert made["sum_figures"] == [str(sum(column)) for column in figures]
