"""What a worker looks at before it gives shares away, and which it gives."""

from collections.abc import Mapping

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.bitmaps import bitmap_of, members_of, pieces
from fedplan.federation.secure.keys import SIGNATURE_BYTES, check_signature
from fedplan.federation.secure.lists import Lists
from fedplan.federation.secure.messages import AnswerMessage, QuestionMessage, read, written
from fedplan.federation.secure.shamir import SHARE_BYTES
from fedplan.federation.secure.terms import Terms

OF_SELF_MASK, OF_MASK_KEY = b"\x01", b"\x02"
"""What a share is of: it stands before the share."""

PIECE_BYTES = 1 + SHARE_BYTES
"""Of one share in an answer."""


def check_shared(terms: Terms, number: int, shared: frozenset[int]) -> None:
    """Refuses to go on after the stage of shares with too few workers.

    Args:
        terms: of the round.
        number: the worker's.
        shared: who has shared.

    Raises:
        SecureMessageError: too few have.
    """
    given = terms.parameters
    if number not in shared:
        raise SecureMessageError("this worker has shared, and the grid says that it has not")
    if len(shared) < given.fewest:
        raise SecureMessageError(
            f"{len(shared)} workers have shared, and the sum is taken over at least {given.fewest}"
        )
    holders = sum(holder in shared for holder in terms.graph.holders(number))
    if holders < given.threshold:
        raise SecureMessageError(
            f"{holders} workers are left that hold shares of this one, and {given.threshold} are needed"
        )


def checked_question(terms: Terms, number: int, question: bytes) -> bytes:
    """The lists that a worker is asked about; where the grid may lie, only if enough workers saw the same.

    Args:
        terms: of the round.
        number: the worker's.
        question: the grid's.

    Raises:
        SecureMessageError: it cannot be read, or it does not show that.
    """
    found = read(QuestionMessage, question, "the question for shares")
    if terms.signs:
        lists = Lists.parse(found.lists, terms.parameters.workers)
        _check_reports(terms, number, lists, found)
        _check_agreements(terms, found)
    elif found.reports or found.agreed or found.agreements:
        raise SecureMessageError("the question holds signatures, and nobody signs in this round")
    return found.lists


def answer_of(lists: Lists, held: Mapping[int, bytes]) -> bytes:
    """The answer: of each owner of shares, that of its own mask or that of its mask key, and never both.

    Args:
        lists: checked, and the only ones that the worker ever answers.
        held: the two shares of each owner, by their numbers.
    """
    given = [
        OF_SELF_MASK + held[owner][:SHARE_BYTES]
        if owner in lists.reported
        else OF_MASK_KEY + held[owner][SHARE_BYTES:]
        for owner in sorted(held)
    ]
    return written(AnswerMessage(shares=b"".join(given)))


def _check_reports(terms: Terms, number: int, lists: Lists, found: QuestionMessage) -> None:
    """That those whose masks are asked for masked their reports for the same workers as this one."""
    told = terms.digest + bitmap_of(lists.reported | lists.missing, terms.parameters.workers)
    reported = sorted(lists.reported)
    signatures = pieces(found.reports, SIGNATURE_BYTES, len(reported), "the signatures of reports")
    holders = set(terms.graph.holders(number))
    for worker, signature in zip(reported, signatures, strict=True):
        if worker in holders:
            check_signature(terms.roster[worker].identity, signature, b"report", told)


def _check_agreements(terms: Terms, found: QuestionMessage) -> None:
    agreed = sorted(members_of(found.agreed, terms.parameters.workers, "those who agree"))
    if len(agreed) < terms.parameters.quorum:
        raise SecureMessageError(
            f"{len(agreed)} workers agree on who has reported, and {terms.parameters.quorum} are needed: the "
            "others may have been told something else"
        )
    signatures = pieces(found.agreements, SIGNATURE_BYTES, len(agreed), "the signatures of the lists")
    for worker, signature in zip(agreed, signatures, strict=True):
        check_signature(terms.roster[worker].identity, signature, b"lists", terms.digest + found.lists)
