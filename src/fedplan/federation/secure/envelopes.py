"""A worker's two shares for another one, encrypted so that only that one can read them, in this round."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.shamir import SHARE_BYTES

SHARES_BYTES = 2 * SHARE_BYTES
"""A share of the seed of the sender's own mask, and then one of the seed of its mask key pair."""

ENVELOPE_BYTES = SHARES_BYTES + 16
"""Of what is sent: the shares and GCM's tag."""

_NONCE = bytes(12)
"""A key encrypts one message only, so one nonce is enough."""


def sealed(key: bytes, manifest: bytes, sender: int, receiver: int, shares: bytes) -> bytes:
    """Shares as they are sent: AES-256-GCM.

    Args:
        key: see `keys.envelope_key`.
        manifest: its digest.
        sender: number of the worker whose shares they are.
        receiver: number of the worker who shall hold them.
        shares: `SHARES_BYTES`.
    """
    return AESGCM(key).encrypt(_NONCE, shares, _bound(manifest, sender, receiver))


def opened(key: bytes, manifest: bytes, sender: int, receiver: int, envelope: bytes) -> bytes:
    """The shares that `sealed` has sealed.

    Raises:
        SecureMessageError: they were sealed in another round, by or for somebody else, or changed since.
    """
    try:
        shares = AESGCM(key).decrypt(_NONCE, envelope, _bound(manifest, sender, receiver))
    except InvalidTag:
        raise SecureMessageError(
            f"the shares that are said to be of worker {sender} were not sealed by it for worker {receiver} "
            "in this round: they were changed, are of another round, or workers were told different things"
        ) from None
    if len(shares) != SHARES_BYTES:
        raise SecureMessageError(f"an envelope holds {len(shares)} bytes, not two shares of {SHARE_BYTES}")
    return shares


def _bound(manifest: bytes, sender: int, receiver: int) -> bytes:
    return manifest + sender.to_bytes(4, "big") + receiver.to_bytes(4, "big")
