"""What grid and workers of a secure round send each other, as protobuf messages.

Each begins with the version of the protocol. A message that holds more than its reader knows is refused, and
not understood in part: a manifest must mean the same to everybody.
"""

from typing import TypeVar

from fedplan.errors import SecureMessageError, WireError
from fedplan.wire.protobuf import Message, field, message
from fedplan.wire.scalars import BYTES, DOUBLE, INT32, INT64, STRING, Buffer

VERSION = 1
"""Of the protocol."""


@message
class Versioned(Message):
    """Base of what is sent."""

    version: int = field(1, INT32)


@message
class MemberMessage(Message):
    """A worker's public keys for one round; with a registered identity, its signature of them."""

    mask_key: bytes = field(1, BYTES)
    share_key: bytes = field(2, BYTES)
    identity: bytes = field(3, BYTES)
    signature: bytes = field(4, BYTES)


@message
class KeysMessage(Versioned):
    """Stage 1, up: the keys that a worker has drawn."""

    member: MemberMessage | None = field(2, lambda: MemberMessage)


@message
class RosterMessage(Versioned):
    """All workers of a round. A worker's number is its place in this list, from 0 on."""

    members: list[MemberMessage] = field(2, lambda: MemberMessage, repeated=True)


@message
class NamedDigest(Message):
    """A digest of something that has a name, such as ``training_plan/list``."""

    name: str = field(1, STRING)
    digest: bytes = field(2, BYTES)


@message
class FigureMessage(Message):
    """A number that is added up beside the vector."""

    name: str = field(1, STRING)
    fraction_bits: int = field(2, INT32)
    most: float = field(3, DOUBLE)


@message
class ManifestMessage(Versioned):
    """What all workers of a round must have been told alike."""

    cycle: str = field(2, STRING)
    model: bytes = field(3, BYTES)
    plans: list[NamedDigest] = field(4, lambda: NamedDigest, repeated=True)
    client_config: bytes = field(5, BYTES)
    roster: bytes = field(6, BYTES)
    workers: int = field(7, INT32)
    trust: str = field(8, STRING)
    dropout: int = field(9, INT32)
    corrupt: int = field(10, INT32)
    degree: int = field(11, INT32)
    threshold: int = field(12, INT32)
    value_bits: int = field(13, INT32)
    sizes: list[int] = field(14, INT64, repeated=True)
    exponents: list[int] = field(15, INT32, repeated=True)
    most_weight: float = field(16, DOUBLE)
    figures: list[FigureMessage] = field(17, lambda: FigureMessage, repeated=True)


@message
class AnnouncementMessage(Versioned):
    """Stage 1, down: the manifest's and the roster's bytes, the same for every worker."""

    manifest: bytes = field(2, BYTES)
    roster: bytes = field(3, BYTES)


@message
class SharesMessage(Versioned):
    """Stage 2, up: one envelope for each neighbour, in the order of their numbers."""

    commitment: bytes = field(2, BYTES)
    envelopes: bytes = field(3, BYTES)


@message
class DeliveryMessage(Versioned):
    """Stage 2, down: who has shared, and the envelopes of those neighbours, in the order of their numbers."""

    shared: bytes = field(2, BYTES)
    envelopes: bytes = field(3, BYTES)


@message
class ReportMessage(Versioned):
    """Stage 3, up: the packed vector and the figures, masked. At a lying grid, a signature of who shared."""

    vector: bytes = field(2, BYTES)
    figures: bytes = field(3, BYTES)
    signature: bytes = field(4, BYTES)


@message
class ListsMessage(Versioned):
    """Stage 4, down: who has reported, and who has shared and not reported."""

    reported: bytes = field(2, BYTES)
    missing: bytes = field(3, BYTES)


@message
class AgreementMessage(Versioned):
    """Stage 4 at a lying grid, up: a worker's signature of the lists, the only ones that it signs."""

    signature: bytes = field(2, BYTES)


@message
class QuestionMessage(Versioned):
    """Stage 4, down: the lists. At a lying grid, what shows that the workers were told the same.

    `reports` has a signature of each who reported, `agreements` one of each in `agreed`, in the order of
    their numbers.
    """

    lists: bytes = field(2, BYTES)
    reports: bytes = field(3, BYTES)
    agreed: bytes = field(4, BYTES)
    agreements: bytes = field(5, BYTES)


@message
class AnswerMessage(Versioned):
    """Stage 4, up: a share of each owner whose shares the worker holds, in the order of their numbers."""

    shares: bytes = field(2, BYTES)


@message
class WorkerMessage(Versioned):
    """What a worker has kept of a round so far. It holds its secrets."""

    cycle: str = field(2, STRING)
    mask_seed: bytes = field(3, BYTES)
    share_key: bytes = field(4, BYTES)
    keys: bytes = field(5, BYTES)
    announcement: bytes = field(6, BYTES)
    self_seed: bytes = field(7, BYTES)
    own_shares: bytes = field(8, BYTES)
    shares: bytes = field(9, BYTES)
    delivery: bytes = field(10, BYTES)
    payload: bytes = field(11, BYTES)
    report: bytes = field(12, BYTES)
    lists: bytes = field(13, BYTES)
    agreement: bytes = field(14, BYTES)
    answer: bytes = field(15, BYTES)


_M = TypeVar("_M", bound=Versioned)


def written(message: Versioned) -> bytes:
    """A message as bytes, with the version of this protocol."""
    message.version = VERSION
    return message.encode()


def read(kind: type[_M], data: Buffer, what: str) -> _M:
    """Reads a message of one kind.

    Args:
        kind: its class.
        data: its bytes.
        what: how an error calls it.

    Raises:
        SecureMessageError: it is damaged, of another version, or holds what this version does not know.
    """
    try:
        found = kind.decode(data)
    except WireError as error:
        raise SecureMessageError(f"{what} cannot be read: {error}") from None
    if found.version != VERSION:
        raise SecureMessageError(
            f"{what} is of version {found.version} of secure aggregation, and this is version {VERSION}: "
            "use the same version of fedplan on both sides"
        )
    if found.encode() != data:
        raise SecureMessageError(
            f"{what} holds something that version {VERSION} does not know: update fedplan"
        )
    return found
