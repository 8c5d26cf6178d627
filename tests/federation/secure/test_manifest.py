"""The manifest: one byte string for all workers."""

import dataclasses
import hashlib

import numpy as np
import pytest

from fedplan.errors import SecureAggregationError, SecureMessageError
from fedplan.federation.secure import (
    Figure,
    Manifest,
    Parameters,
    Roster,
    RosterMember,
    Trust,
    digest_of_tensors,
)
from fedplan.federation.secure.messages import ManifestMessage, NamedDigest, read, written
from fedplan.wire import WireTensor
from tests.federation.secure.rounds import SecureRound

MADE = SecureRound(10)
MANIFEST = MADE.manifest


def test_a_manifest_comes_back_and_its_digest_is_that_of_its_bytes():
    data = MANIFEST.serialize()

    assert Manifest.parse(data) == MANIFEST
    assert MANIFEST.digest == hashlib.sha256(data).digest()
    assert MANIFEST.ring.bits == 12
    assert MANIFEST.values == 17


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"model": bytes(31)}, "digest of 'model' has 31 bytes"),
        ({"roster": b""}, "digest of 'roster'"),
        ({"plans": {"training_plan/list": b"x"}}, "digest of 'training_plan/list'"),
        ({"plans": {}}, "no Plan"),
        ({"cycle": ""}, "no cycle"),
        ({"parameters": Parameters(10, Trust.HONEST, 300, 100, 9, 1)}, "may hold enough"),
        ({"value_bits": 1}, "2 to 24 bits"),
        ({"sizes": (5, -1, 12)}, "fewer than"),
        ({"sizes": (2**31, 0, 0)}, "fewer than"),
        ({"exponents": (1, 2)}, "each tensor has an exponent"),
        ({"exponents": (1, 2, 501)}, "each tensor has an exponent"),
        ({"most_weight": 0.0}, "largest weight"),
        ({"most_weight": float("nan")}, "largest weight"),
        ({"most_weight": 1e300}, "no more than the largest weight"),
        ({"most_weight": 1.0}, "no more than the largest weight"),
        ({"figures": MANIFEST.figures[::-1]}, "'workers', 'weight' and others"),
        ({"figures": (*MANIFEST.figures, MANIFEST.figures[2])}, "each once"),
        ({"figures": (Figure("workers", 1, 1.0), *MANIFEST.figures[1:])}, "counts as one worker"),
        ({"figures": (*MANIFEST.figures, Figure("x", 40, 1e9))}, "too large for 64 bits"),
    ],
)
def test_a_round_that_cannot_be_is_refused(changes, why):
    with pytest.raises(SecureAggregationError, match=why):
        dataclasses.replace(MANIFEST, **changes)


def test_values_that_many_workers_cannot_add_are_refused():
    large = Parameters(1000, Trust.HONEST, 300, 100, 88, 36)
    with pytest.raises(SecureAggregationError, match="need over 32 bits"):
        dataclasses.replace(MANIFEST, parameters=large, value_bits=23)


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("trust", "hopeful", "hopeful"),
        ("threshold", 1, "may hold enough"),
        (
            "plans",
            [NamedDigest(name=name, digest=bytes(32)) for name in "ba"],
            "in the order of the names",
        ),
        ("plans", [NamedDigest(name="a", digest=bytes(32))] * 2, "names a Plan twice"),
    ],
)
def test_a_manifest_of_a_grid_that_cannot_be_is_refused(field, value, why):
    found = read(ManifestMessage, MANIFEST.serialize(), "the manifest")
    setattr(found, field, value)
    with pytest.raises(SecureMessageError, match=why):
        Manifest.parse(written(found))


def test_a_models_digest_is_of_dtypes_shapes_and_values():
    tensors = [
        WireTensor(np.array([[1.5, -2.0]], np.float32), "float32"),
        WireTensor(np.array(7, np.int64), "int64"),
    ]
    spelled = (
        b"\x07float32\x02" + (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
        + np.array([1.5, -2.0], "<f4").tobytes()
        + b"\x05int64\x00" + (7).to_bytes(8, "little")
    )  # fmt: skip
    assert digest_of_tensors(tensors) == hashlib.sha256(spelled).digest()

    other = [WireTensor(np.array([[1.5], [-2.0]], np.float32), "float32"), tensors[1]]
    assert digest_of_tensors(other) != digest_of_tensors(tensors), "another shape"


def test_the_roster_is_in_the_order_of_mask_keys_whoever_came_first():
    members = list(MADE.terms.roster)
    roster = Roster.of(members[::-1])

    assert roster == MADE.terms.roster
    assert Roster.parse(roster.serialize()) == roster
    assert roster.digest == hashlib.sha256(roster.serialize()).digest() == MANIFEST.roster
    assert [member.mask_key for member in roster] == sorted(member.mask_key for member in members)


def test_a_roster_in_another_order_is_refused():
    with pytest.raises(SecureMessageError, match="not in the order"):
        Roster.parse(Roster(MADE.terms.roster.members[::-1]).serialize())


def test_keys_of_another_length_are_refused():
    with pytest.raises(SecureMessageError, match="32 bytes"):
        Roster.of([RosterMember(bytes(31), bytes(32))])
    with pytest.raises(SecureMessageError, match="32 bytes"):
        RosterMember.parse(RosterMember(bytes(31), bytes(32)).serialize())
    with pytest.raises(SecureMessageError, match="no secret can be agreed"):
        RosterMember.parse(RosterMember(bytes(32), b"\x09" + bytes(31)).serialize())
