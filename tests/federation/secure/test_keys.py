"""Keys, and the known answers of the primitives that they come from."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedplan.errors import SecureMessageError
from fedplan.federation.secure import keys

ONE, OTHER = keys.mask_pair(bytes(32)), keys.mask_pair(b"\x01" * 32)
MANIFEST = b"m" * 32


def test_rfc_7748_5_2_and_6_1():
    scalar = bytes.fromhex("a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4")
    point = bytes.fromhex("e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c")
    private = X25519PrivateKey.from_private_bytes(scalar)
    shared = keys.exchanged(private, keys.public_key(point))
    assert shared.hex() == "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552"

    alice, bob = (
        X25519PrivateKey.from_private_bytes(bytes.fromhex(raw))
        for raw in (
            "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
            "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        )
    )
    public = alice.public_key().public_bytes_raw().hex()
    assert public == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    shared = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"
    assert keys.exchanged(alice, bob.public_key()).hex() == shared
    assert keys.exchanged(bob, alice.public_key()).hex() == shared


def test_rfc_5869_a_1():
    made = HKDF(
        algorithm=SHA256(),
        length=42,
        salt=bytes(range(13)),
        info=bytes.fromhex("f0f1f2f3f4f5f6f7f8f9"),
    ).derive(b"\x0b" * 22)
    assert made.hex() == (
        "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
    )


def test_what_is_derived_is_hkdf_with_the_purpose_and_the_workers_as_info():
    made = keys.derived(b"secret", b"salt", b"purpose", 1, 258)
    info = b"fedplan secure 1 purpose" + bytes([0, 0, 0, 1, 0, 0, 1, 2])

    assert made == HKDF(algorithm=SHA256(), length=32, salt=b"salt", info=info).derive(b"secret")


def test_two_workers_have_one_mask_stream_in_common():
    from_one = keys.pair_key(ONE, OTHER.public_key(), MANIFEST, 7, 3)

    assert from_one == keys.pair_key(OTHER, ONE.public_key(), MANIFEST, 3, 7)
    assert from_one != keys.pair_key(ONE, OTHER.public_key(), b"n" * 32, 7, 3), "another manifest"
    assert from_one != keys.pair_key(ONE, OTHER.public_key(), MANIFEST, 7, 4), "another worker"


def test_shares_to_and_from_a_worker_have_keys_of_their_own():
    common = keys.exchanged(ONE, OTHER.public_key())
    made = {
        keys.envelope_key(common, MANIFEST, 7, 3),
        keys.envelope_key(common, MANIFEST, 3, 7),
        keys.envelope_key(common, b"n" * 32, 7, 3),
        keys.pair_key(ONE, OTHER.public_key(), MANIFEST, 7, 3),
    }
    assert common == keys.exchanged(OTHER, ONE.public_key())
    assert len(made) == 4


def test_one_seed_gives_unrelated_keys():
    seed = bytes(32)
    made = {
        keys.self_key(seed, MANIFEST, 1),
        keys.self_key(seed, MANIFEST, 2),
        keys.self_key(seed, b"n" * 32, 1),
        keys.commitment_of(seed, MANIFEST, 1),
        keys.mask_pair(seed).private_bytes_raw(),
    }
    assert len(made) == 5


LOW_ORDER = [
    bytes(32),
    (1).to_bytes(32, "little"),
    (2**255 - 19).to_bytes(32, "little"),
    (2**255 - 20).to_bytes(32, "little"),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


@pytest.mark.parametrize("raw", LOW_ORDER)
def test_a_key_with_which_no_secret_can_be_agreed_is_refused(raw):
    with pytest.raises(SecureMessageError, match="no secret can be agreed"):
        keys.check_usable(raw)


def test_a_usable_key_passes():
    keys.check_usable(ONE.public_key().public_bytes_raw())


def test_a_key_of_another_length_is_refused():
    with pytest.raises(SecureMessageError, match="32 bytes, not 31"):
        keys.check_usable(bytes(31))


def test_a_signature_is_for_its_purpose_and_content():
    signer = Ed25519PrivateKey.generate()
    identity = signer.public_key().public_bytes_raw()
    signature = keys.signed(signer, b"one purpose", b"content")
    keys.check_signature(identity, signature, b"one purpose", b"content")

    other = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    for identity_, signature_, purpose, content in (
        (other, signature, b"one purpose", b"content"),
        (identity, signature, b"another purpose", b"content"),
        (identity, signature, b"one purpose", b"other content"),
        (identity, bytes(64), b"one purpose", b"content"),
        (identity, b"", b"one purpose", b"content"),
        (b"", signature, b"one purpose", b"content"),
    ):
        with pytest.raises(SecureMessageError, match="signature"):
            keys.check_signature(identity_, signature_, purpose, content)
