"""The workers of a secure round, by the public keys that they have drawn for it."""

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.keys import (
    KEY_BYTES,
    SIGNATURE_BYTES,
    check_signature,
    check_usable,
    signed,
)
from fedplan.federation.secure.messages import KeysMessage, MemberMessage, RosterMessage, read, written


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class RosterMember:
    """A worker's public keys.

    Attributes:
        mask_key: of the pair from which its pairwise masks come: X25519, 32 bytes.
        share_key: of the pair under which shares are encrypted for it: X25519, 32 bytes.
        identity: its registered public key, Ed25519; empty where it has none.
        signature: that of the identity, of cycle and keys; empty where there is none.
    """

    mask_key: bytes
    share_key: bytes
    identity: bytes = b""
    signature: bytes = b""

    @classmethod
    def of(cls, mask_key: bytes, share_key: bytes, cycle: str, signer: Ed25519PrivateKey | None) -> Self:
        """The member with these keys, signed if there is a signer."""
        if signer is None:
            return cls(mask_key, share_key)
        signature = signed(signer, b"keys", _signed(cycle, mask_key, share_key))
        return cls(mask_key, share_key, signer.public_key().public_bytes_raw(), signature)

    @classmethod
    def parse(cls, keys: bytes) -> Self:
        """Reads the message with which a worker tells its keys.

        Raises:
            SecureMessageError: it is no such message, or holds keys that cannot be used.
        """
        member = cls._of_message(read(KeysMessage, keys, "a worker's keys").member or MemberMessage())
        check_usable(member.mask_key)
        check_usable(member.share_key)
        for what, found, size in (
            ("an identity", member.identity, KEY_BYTES),
            ("a signature", member.signature, SIGNATURE_BYTES),
        ):
            if len(found) not in (0, size):
                raise SecureMessageError(f"{what} has {size} bytes, not {len(found)}")
        return member

    @classmethod
    def _of_message(cls, found: MemberMessage) -> Self:
        return cls(found.mask_key, found.share_key, found.identity, found.signature)

    def to_message(self) -> MemberMessage:
        """As it is sent."""
        return MemberMessage(
            mask_key=self.mask_key,
            share_key=self.share_key,
            identity=self.identity,
            signature=self.signature,
        )

    def serialize(self) -> bytes:
        """The message with which the worker tells its keys."""
        return written(KeysMessage(member=self.to_message()))

    def check_identity(self, cycle: str) -> None:
        """Refuses keys that a registered worker has not signed for this cycle.

        Raises:
            SecureMessageError: they are not signed so.
        """
        content = _signed(cycle, self.mask_key, self.share_key)
        check_signature(self.identity, self.signature, b"keys", content)


@dataclasses.dataclass(frozen=True, slots=True)
class Roster:
    """The workers of a round, in the order of their mask keys; a worker's number is its place.

    Attributes:
        members: each with keys, and an identity if it has one, that no other one has.
    """

    members: tuple[RosterMember, ...]

    @classmethod
    def of(cls, members: Iterable[RosterMember]) -> Self:
        """The roster of these workers.

        Raises:
            SecureMessageError: one of them is there twice.
        """
        made = cls(tuple(sorted(members)))
        made._check_different()
        return made

    @classmethod
    def parse(cls, data: bytes) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            SecureMessageError: it is no roster, or a worker is in it twice.
        """
        members = tuple(RosterMember._of_message(m) for m in read(RosterMessage, data, "the roster").members)
        made = cls(members)
        made._check_different()
        if list(members) != sorted(members):
            raise SecureMessageError("the roster is not in the order of the workers' mask keys")
        return made

    def serialize(self) -> bytes:
        """As it is sent."""
        return written(RosterMessage(members=[member.to_message() for member in self.members]))

    @property
    def digest(self) -> bytes:
        """SHA-256 of its bytes."""
        return hashlib.sha256(self.serialize()).digest()

    def __len__(self) -> int:
        return len(self.members)

    def __iter__(self) -> Iterator[RosterMember]:
        return iter(self.members)

    def __getitem__(self, worker: int) -> RosterMember:
        return self.members[worker]

    def _check_different(self) -> None:
        for what, found in (
            ("mask key", [member.mask_key for member in self.members]),
            ("share key", [member.share_key for member in self.members]),
            ("identity", [member.identity for member in self.members if member.identity]),
        ):
            if any(len(key) != KEY_BYTES for key in found):
                raise SecureMessageError(f"the {what} of a worker in the roster has not {KEY_BYTES} bytes")
            if len(set(found)) < len(found):
                raise SecureMessageError(f"a worker is in the roster twice: two have the same {what}")


def _signed(cycle: str, mask_key: bytes, share_key: bytes) -> bytes:
    return mask_key + share_key + cycle.encode()
