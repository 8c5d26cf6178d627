"""Keys: those that a worker draws for one round, and those that follow from them.

Every derived key is HKDF-SHA-256. Its info begins with this protocol's name and the key's purpose, and ends
with the numbers of the workers that it is for, four bytes each, big-endian; its salt is the digest of the
round's manifest. So keys of two manifests have nothing in common.
"""

import functools

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedplan.errors import SecureMessageError

PROTOCOL = b"fedplan secure 1 "
"""How everything begins that is hashed, derived from or signed. Its number is the protocol's version."""

KEY_BYTES = 32
"""Of every key, public key, seed and digest here."""

SIGNATURE_BYTES = 64
"""Of an Ed25519 signature."""


def derived(secret: bytes, salt: bytes, purpose: bytes, *workers: int) -> bytes:
    """32 bytes from a secret: HKDF-SHA-256.

    Args:
        secret: what it comes from.
        salt: the digest of the manifest; empty only for keys that are older than it.
        purpose: what it is for.
        workers: whom it is for.
    """
    info = PROTOCOL + purpose + b"".join(worker.to_bytes(4, "big") for worker in workers)
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=salt, info=info).derive(secret)


def mask_pair(seed: bytes) -> X25519PrivateKey:
    """The key pair from which a worker's pairwise masks come.

    It is older than the manifest, which holds its public key, so its salt is empty.

    Args:
        seed: 32 bytes, which the others share; they give the pair back if the worker drops out.
    """
    return X25519PrivateKey.from_private_bytes(derived(seed, b"", b"mask key pair"))


def exchanged(private: X25519PrivateKey, public: X25519PublicKey) -> bytes:
    """What the owners of two key pairs have in common: X25519.

    Raises:
        SecureMessageError: the public key is of low order, with which everybody has the same in common.
    """
    try:
        return private.exchange(public)
    except ValueError:
        raise SecureMessageError(
            "a public key is one of the few with which no secret can be agreed: it is not from a worker that "
            "follows the protocol"
        ) from None


def public_key(raw: bytes) -> X25519PublicKey:
    """A public key from its 32 bytes.

    Raises:
        SecureMessageError: it has another length.
    """
    if len(raw) != KEY_BYTES:
        raise SecureMessageError(f"a public key has {KEY_BYTES} bytes, not {len(raw)}")
    return X25519PublicKey.from_public_bytes(raw)


def check_usable(raw: bytes) -> None:
    """Refuses a public key with which no secret can be agreed.

    Raises:
        SecureMessageError: it is such a key.
    """
    exchanged(X25519PrivateKey.from_private_bytes(bytes(KEY_BYTES)), public_key(raw))


def pair_key(
    private: X25519PrivateKey, public: X25519PublicKey, manifest: bytes, one: int, other: int
) -> bytes:
    """The key of the mask stream that two workers have in common; the same from both sides.

    Args:
        private: the mask key of either of them.
        public: that of the other one.
        manifest: its digest.
        one: the number of either of them.
        other: that of the other one.
    """
    return derived(exchanged(private, public), manifest, b"pairwise mask", min(one, other), max(one, other))


def self_key(seed: bytes, manifest: bytes, worker: int) -> bytes:
    """The key of a worker's own mask stream.

    Args:
        seed: 32 bytes, which the others share; they give it back if the worker has reported.
        manifest: its digest.
        worker: the worker's number.
    """
    return derived(seed, manifest, b"self mask", worker)


def commitment_of(seed: bytes, manifest: bytes, worker: int) -> bytes:
    """What a worker tells of the seed of its own mask: enough to know the seed again, and nothing more."""
    return derived(seed, manifest, b"commitment", worker)


def envelope_key(common: bytes, manifest: bytes, sender: int, receiver: int) -> bytes:
    """The key under which one worker's shares for another one are encrypted, and nothing else.

    Args:
        common: what the share keys of the two have in common; see `exchanged`.
        manifest: its digest.
        sender: number of the worker whose shares they are.
        receiver: of the one who shall hold them.
    """
    return derived(common, manifest, b"shares", sender, receiver)


def signed(signer: Ed25519PrivateKey, purpose: bytes, content: bytes) -> bytes:
    """A worker's signature of what it says for a purpose: Ed25519."""
    return signer.sign(PROTOCOL + purpose + content)


def check_signature(identity: bytes, signature: bytes, purpose: bytes, content: bytes) -> None:
    """Refuses a signature that the owner of an identity has not made.

    Args:
        identity: an Ed25519 public key, 32 bytes.
        signature: 64 bytes.
        purpose: what for.
        content: what is signed.

    Raises:
        SecureMessageError: it is wrong.
    """
    if not _has_signed(identity, signature, PROTOCOL + purpose + content):
        raise SecureMessageError("a signature is not that of the identity that it is said to be of")


@functools.lru_cache(maxsize=4096)
def _has_signed(identity: bytes, signature: bytes, content: bytes) -> bool:
    """Whether a signature is right. In a simulation all workers of a round look at the same ones."""
    try:
        Ed25519PublicKey.from_public_bytes(identity).verify(signature, content)
    except (InvalidSignature, ValueError):
        return False
    return True
