"""What the grid refuses when a message comes, and what it makes of those that it has."""

import pytest

from fedplan.errors import SecureAggregationError, SecureMessageError, SecureRoundError
from fedplan.federation.secure import (
    MaskedSum,
    SecureWorker,
    Trust,
    check_agreement,
    check_answer,
    check_keys,
    check_repeated,
    check_report,
    check_shares,
    deliveries,
    lists_of,
    question_of,
)
from fedplan.federation.secure.messages import (
    KeysMessage,
    MemberMessage,
    ReportMessage,
    SharesMessage,
    read,
    written,
)
from fedplan.federation.secure.roster import RosterMember
from tests.federation.secure.rounds import CYCLE, SecureRound, reported


def changed(kind, message, **fields):
    """A message with other contents."""
    found = read(kind, message, "the message")
    for name, value in fields.items():
        setattr(found, name, value)
    return written(found)


def test_what_comes_twice_counts_once():
    check_repeated(None, b"first")
    check_repeated(b"first", b"first")
    with pytest.raises(SecureMessageError, match="something else at this stage before"):
        check_repeated(b"first", b"second")


def test_a_worker_without_a_registered_identity_is_refused_where_the_grid_may_lie():
    with pytest.raises(SecureMessageError, match="not registered with this grid"):
        check_keys(SecureWorker(CYCLE).keys, CYCLE, Trust.LYING, {bytes(32)}, [])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"identity": b"x"}, "an identity has 32 bytes, not 1"),
        ({"identity": bytes(32), "signature": bytes(20_000_000)}, "a signature has 64 bytes, not 20000000"),
        ({"identity": bytes(32), "signature": bytes(64)}, "in a round without registered identities"),
    ],
)
def test_what_would_only_fill_the_roster_is_refused(fields, why):
    """A roster of it could not be read by the workers, and one stranger would end the round of all."""
    member = RosterMember.parse(SecureWorker(CYCLE).keys)
    message = written(KeysMessage(member=MemberMessage(member.mask_key, member.share_key, **fields)))
    with pytest.raises(SecureMessageError, match=why):
        check_keys(message, CYCLE, Trust.HONEST, (), [])


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"commitment": bytes(31)}, "a commitment has 32 bytes, not 31"),
        ({"envelopes": bytes(80 * 8)}, "640 bytes; 9 of 80 bytes are due"),
    ],
)
def test_shares_are_one_envelope_for_each_neighbour(fields, why):
    made = SecureRound(10)
    with pytest.raises(SecureMessageError, match=why):
        check_shares(made.terms, 0, changed(SharesMessage, made.workers[0].share(), **fields))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"vector": bytes(25)}, "17 numbers of 12 bits take 26 bytes, not 25"),
        ({"vector": bytes(25) + b"\xf0"}, "bits behind the last number"),
        ({"figures": bytes(31)}, "4 figures of 8 bytes"),
        ({"signature": bytes(64)}, "nobody signs in this round"),
    ],
)
def test_a_report_has_as_many_numbers_as_the_manifest_says(fields, why):
    made = reported()
    with pytest.raises(SecureMessageError, match=why):
        check_report(made.terms, made.shares, None, 0, changed(ReportMessage, made.reports[0], **fields))


def test_a_report_that_has_come_may_come_again_while_answers_are_waited_for():
    made = reported()
    check_report(made.terms, made.shares, made.lists, 0, made.reports[0])


def test_a_signature_by_somebody_else_is_refused():
    made = reported(5, Trust.LYING)
    with pytest.raises(SecureMessageError, match="signature"):
        check_report(made.terms, made.shares, None, 1, made.reports[0])
    agreement = made.workers[0].agree(made.listed)
    check_agreement(made.terms, made.lists, 0, agreement)
    with pytest.raises(SecureMessageError, match="signature"):
        check_agreement(made.terms, made.lists, 1, agreement)


def test_an_answer_has_a_share_of_each_owner():
    made = reported()
    made.answer()
    with pytest.raises(SecureMessageError, match="10 of 33 bytes are due"):
        check_answer(made.terms, made.lists, 0, made.answers[0][:3] + b"\x84\x02" + bytes(260))


def test_a_sum_takes_a_report_once():
    made = reported()
    masked = MaskedSum(made.terms, frozenset(made.shares))
    masked.add(3, made.reports[3])
    before = masked.total.vector.copy()
    masked.add(3, made.reports[3])

    assert masked.workers == {3}
    assert (masked.total.vector == before).all()


def test_a_grid_that_starts_again_makes_the_same_messages_of_what_is_stored():
    made = reported()
    stored = dict(reversed(made.shares.items()))

    assert deliveries(made.terms, stored) == made.deliveries
    lists = lists_of(made.terms, set(stored), dict(reversed(made.reports.items())))
    assert lists == made.lists
    assert question_of(made.terms, lists) == made.question()


def test_reports_of_who_has_not_shared_do_not_count():
    made = reported()
    with pytest.raises(SecureRoundError, match="not those of the workers that have shared"):
        lists_of(made.terms, set(range(9)), range(10))


def test_a_worker_cannot_go_on_before_its_turn():
    worker, made = SecureWorker(CYCLE), SecureRound(10)
    with pytest.raises(SecureAggregationError, match="call join first"):
        worker.share()
    made.share()
    with pytest.raises(SecureMessageError, match="after it has got its neighbours' shares"):
        made.workers[0].report(made.payloads[0])
    fresh = SecureRound(10, seed=5)
    with pytest.raises(SecureMessageError, match="has not shared yet"):
        fresh.workers[0].receive(made.deliveries[0])


@pytest.mark.parametrize("trust", Trust)
def test_lists_are_agreed_on_only_where_the_grid_may_lie(trust):
    made = reported(5, trust)
    if trust is Trust.HONEST:
        with pytest.raises(SecureMessageError, match="only where the grid may lie"):
            made.workers[0].agree(made.listed)
    else:
        assert made.workers[0].agree(made.listed) == made.workers[0].agree(made.listed)


def test_a_payload_that_is_not_the_rounds_is_refused():
    made = SecureRound(10)
    made.share()
    made.workers[0].receive(made.deliveries[0])
    other = SecureRound(10, sizes=(3,)).payloads[0]
    with pytest.raises(SecureAggregationError, match="as many numbers"):
        made.workers[0].report(other)
    made.payloads[0].values[0] = 128
    with pytest.raises(SecureAggregationError, match="from −127 to 127"):
        made.workers[0].report(made.payloads[0])
