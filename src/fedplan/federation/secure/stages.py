"""The grid's side of a secure round: what it checks when a message comes, and what it sends next.

Pure functions. All that a stage has received is bytes by the workers' numbers, which a store can keep; a grid
that starts again makes the same messages of them. Functions named `check_…` are for a message that comes, and
those named after what they make are for the end of a stage, when no more are taken.
"""

from collections.abc import Collection, Iterable, Mapping

import numpy as np

from fedplan.errors import SecureMessageError, SecureRoundError
from fedplan.federation.secure.answers import OF_MASK_KEY, OF_SELF_MASK, PIECE_BYTES
from fedplan.federation.secure.bitmaps import bitmap_of, pieces
from fedplan.federation.secure.envelopes import ENVELOPE_BYTES
from fedplan.federation.secure.keys import KEY_BYTES, check_signature
from fedplan.federation.secure.lists import Lists
from fedplan.federation.secure.messages import (
    AgreementMessage,
    AnswerMessage,
    DeliveryMessage,
    QuestionMessage,
    ReportMessage,
    SharesMessage,
    read,
    written,
)
from fedplan.federation.secure.parameters import Trust
from fedplan.federation.secure.roster import RosterMember
from fedplan.federation.secure.streams import FIGURE_BYTES, Masked
from fedplan.federation.secure.terms import Terms
from fedplan.text import counted


def check_repeated(before: bytes | None, message: bytes) -> None:
    """Refuses a second message of a worker in a stage that is not the first one again.

    Args:
        before: what the worker has sent in this stage; None when nothing.
        message: what it sends.

    Raises:
        SecureMessageError: they differ.
    """
    if before is not None and before != message:
        raise SecureMessageError("the worker has sent something else at this stage before, and that counts")


def check_keys(
    message: bytes, cycle: str, trust: Trust, registered: Collection[bytes], others: Iterable[RosterMember]
) -> RosterMember:
    """Stage 1: a worker's keys.

    Args:
        message: the worker's.
        cycle: the cycle's name.
        trust: of the round. Where the grid may lie, workers have registered identities.
        registered: the identities that are.
        others: who is in the round already.

    Raises:
        SecureMessageError: the keys cannot be used, are not signed, or are those of a worker that is in it.
    """
    member = RosterMember.parse(message)
    if trust is Trust.LYING:
        if member.identity not in registered:
            raise SecureMessageError("the worker's identity is not registered with this grid")
        member.check_identity(cycle)
    elif member.identity or member.signature:
        raise SecureMessageError("the worker sends an identity, in a round without registered identities")
    for other in others:
        same = member.mask_key == other.mask_key or member.share_key == other.share_key
        if same or (member.identity and member.identity == other.identity):
            raise SecureMessageError("a worker with the same key or identity is in the round already")
    return member


def check_shares(terms: Terms, worker: int, message: bytes) -> None:
    """Stage 2: a worker's envelopes.

    Args:
        terms: of the round.
        worker: whose they are.
        message: the worker's.

    Raises:
        SecureMessageError: they are not one for each neighbour.
    """
    _parsed_shares(terms, worker, message)


def deliveries(terms: Terms, shares: Mapping[int, bytes]) -> dict[int, bytes]:
    """The end of stage 2: for each worker that has shared, the envelopes of its neighbours.

    Args:
        terms: of the round.
        shares: by the workers' numbers, what each has sent.

    Raises:
        SecureRoundError: too few have shared.
    """
    _check_enough(len(shares), terms.parameters.fewest, "shared their secrets")
    told = bitmap_of(shares, terms.parameters.workers)
    to: dict[int, list[bytes]] = {receiver: [] for receiver in range(terms.parameters.workers)}
    for sender, message in sorted(shares.items()):
        envelopes = _parsed_shares(terms, sender, message)[1]
        for receiver, envelope in zip(terms.graph.neighbours(sender), envelopes, strict=True):
            to[receiver].append(envelope)
    return {
        receiver: written(DeliveryMessage(shared=told, envelopes=b"".join(to[receiver])))
        for receiver in shares
    }


def check_report(
    terms: Terms, shared: Collection[int], lists: Lists | None, worker: int, message: bytes
) -> Masked:
    """Stage 3: a worker's masked report.

    Args:
        terms: of the round.
        shared: who has shared.
        lists: those of stage 4, once it has begun. A report that comes then must not even be stored: with
            what the workers tell of one that is missing, it could be read.
        worker: whose report it is.
        message: the worker's.

    Raises:
        SecureMessageError: it comes too late, or does not fit.
    """
    if lists is not None and worker not in lists.reported:
        raise SecureMessageError("the report comes after it was settled who has reported: it is not kept")
    if worker not in shared:
        raise SecureMessageError("the worker has not shared its secrets, so its report cannot be unmasked")
    found = read(ReportMessage, message, "a masked report")
    manifest = terms.manifest
    _check_signed(terms, found.signature, "a masked report")
    if terms.signs:
        told = terms.digest + bitmap_of(shared, terms.parameters.workers)
        check_signature(terms.roster[worker].identity, found.signature, b"report", told)
    if len(found.figures) != FIGURE_BYTES * len(manifest.figures):
        raise SecureMessageError(f"a report has {len(manifest.figures)} figures of {FIGURE_BYTES} bytes")
    vector = manifest.ring.unpack(found.vector, manifest.values)
    return Masked(manifest.ring, vector, np.frombuffer(found.figures, "<u8"))


def lists_of(terms: Terms, shared: Collection[int], reported: Collection[int]) -> Lists:
    """The end of stage 3: who has reported and who has not. From here on no report is taken.

    Args:
        terms: of the round.
        shared: who has shared.
        reported: who has reported.

    Raises:
        SecureRoundError: too few have, or they are not one group.
    """
    _check_enough(len(reported), terms.parameters.fewest, "reported")
    lists = Lists(frozenset(reported), frozenset(shared) - frozenset(reported))
    try:
        lists.check(terms, shared)
    except SecureMessageError as error:
        raise SecureRoundError(f"the sum cannot be asked for: {error}") from None
    return lists


def check_agreement(terms: Terms, lists: Lists, worker: int, message: bytes) -> None:
    """Stage 4 where the grid may lie: a worker's signature of the lists.

    Raises:
        SecureMessageError: it is no signature of these lists by this worker.
    """
    told = terms.digest + lists.serialize(terms.parameters.workers)
    signature = read(AgreementMessage, message, "an agreement").signature
    check_signature(terms.roster[worker].identity, signature, b"lists", told)


def question_of(
    terms: Terms,
    lists: Lists,
    reports: Mapping[int, bytes] | None = None,
    agreements: Mapping[int, bytes] | None = None,
) -> bytes:
    """Stage 4: what those who have reported are asked, the same for all.

    Args:
        terms: of the round.
        lists: of the round.
        reports: where the grid may lie, the masked reports, by the workers' numbers.
        agreements: where the grid may lie, the agreements that have come, by the workers' numbers.

    Raises:
        SecureRoundError: the grid may lie, and too few agree.
    """
    data = lists.serialize(terms.parameters.workers)
    if not terms.signs:
        return written(QuestionMessage(lists=data))
    agreements, reports = agreements or {}, reports or {}
    _check_enough(len(agreements), terms.parameters.quorum, "signed who has reported")
    return written(
        QuestionMessage(
            lists=data,
            reports=b"".join(
                read(ReportMessage, reports[worker], "a masked report").signature
                for worker in sorted(lists.reported)
            ),
            agreed=bitmap_of(agreements, terms.parameters.workers),
            agreements=b"".join(
                read(AgreementMessage, agreements[worker], "an agreement").signature
                for worker in sorted(agreements)
            ),
        )
    )


def check_answer(terms: Terms, lists: Lists, worker: int, message: bytes) -> dict[int, int]:
    """Stage 4: a worker's answer. The share that it gives of each owner, by the owners' numbers.

    Raises:
        SecureMessageError: the worker was not asked, or it does not give the shares that it was asked for.
    """
    if worker not in lists.reported:
        raise SecureMessageError("the worker has not reported, so it was not asked for shares")
    shared = lists.reported | lists.missing
    owners = [owner for owner in terms.graph.holders(worker) if owner in shared]
    found = read(AnswerMessage, message, "an answer")
    shares = {}
    for owner, piece in zip(
        owners, pieces(found.shares, PIECE_BYTES, len(owners), "the shares"), strict=True
    ):
        if piece[:1] != (OF_SELF_MASK if owner in lists.reported else OF_MASK_KEY):
            raise SecureMessageError(f"the share of worker {owner} is of the secret that was not asked for")
        shares[owner] = int.from_bytes(piece[1:], "big")
    return shares


def commitment_in(terms: Terms, worker: int, message: bytes) -> bytes:
    """What a worker told of the seed of its own mask when it shared."""
    return _parsed_shares(terms, worker, message)[0]


def _parsed_shares(terms: Terms, worker: int, message: bytes) -> tuple[bytes, list[bytes]]:
    found = read(SharesMessage, message, "a worker's shares")
    if len(found.commitment) != KEY_BYTES:
        raise SecureMessageError(f"a commitment has {KEY_BYTES} bytes, not {len(found.commitment)}")
    neighbours = len(terms.graph.neighbours(worker))
    return found.commitment, pieces(found.envelopes, ENVELOPE_BYTES, neighbours, "a worker's envelopes")


def _check_signed(terms: Terms, signature: bytes, what: str) -> None:
    if signature and not terms.signs:
        raise SecureMessageError(f"{what} is signed, and nobody signs in this round")


def _check_enough(count: int, needed: int, what: str) -> None:
    if count < needed:
        raise SecureRoundError(
            f"{counted(count, 'worker')} {what}, and {needed} are needed: the round ends without a sum, and "
            "nothing of any report was unmasked"
        )
