"""A grid that cheats when it asks for secrets gets noise or a refusal: one test for each way.

Where a level of trust promises nothing, the test shows what the cheating grid gets there.
"""

import dataclasses

import pytest

from fedplan.errors import SecureMessageError, SecureRoundError
from fedplan.federation.secure import (
    Lists,
    MaskedSum,
    Trust,
    check_answer,
    check_report,
    deliveries,
    lists_of,
    parameters_for,
    question_of,
    unmask,
)
from fedplan.federation.secure.bitmaps import bitmap_of
from fedplan.federation.secure.graph import NeighbourGraph
from fedplan.federation.secure.messages import (
    AgreementMessage,
    QuestionMessage,
    ReportMessage,
    read,
    written,
)
from tests.federation.secure.rounds import SecureRound, asked, reported


def test_both_lists_for_one_worker_are_refused():
    made = reported()
    with pytest.raises(SecureMessageError, match="worker 3 is in both lists"):
        made.workers[0].answer(asked(made, Lists(frozenset(range(10)), frozenset({3}))))


def test_a_second_unmasking_is_refused_and_the_same_one_is_answered_alike():
    made = reported()
    made.answer()
    again = Lists(frozenset(range(9)), frozenset({9}))
    for worker in made.workers:
        with pytest.raises(SecureMessageError, match="asks a second time, with other lists"):
            worker.answer(asked(made, again))
    assert made.workers[0].answer(made.question()) == made.answers[0]


def test_a_question_that_was_refused_can_be_asked_rightly():
    made = reported()
    with pytest.raises(SecureMessageError):
        made.workers[0].answer(asked(made, Lists(frozenset(range(10)), frozenset({3}))))
    made.answer()
    assert len(made.answers) == 10


def test_too_few_reports_are_refused_by_workers():
    made = reported()
    few = Lists(frozenset(range(6)), frozenset(range(6, 10)))
    with pytest.raises(SecureMessageError, match=r"6 workers have reported, and .* at least 7"):
        made.workers[0].answer(asked(made, few))


@pytest.mark.parametrize(
    "lists",
    [Lists(frozenset(range(9)), frozenset()), Lists(frozenset(range(8)), frozenset({8}))],
)
def test_lists_that_leave_somebody_out_are_refused(lists):
    made = reported()
    with pytest.raises(SecureMessageError, match="not those of the workers that have shared"):
        made.workers[0].answer(asked(made, lists))


def test_a_worker_that_is_asked_before_it_has_reported_refuses():
    made = SecureRound(10)
    made.share()
    made.workers[0].receive(made.deliveries[0])
    with pytest.raises(SecureMessageError, match="has not reported yet"):
        made.workers[0].answer(asked(made, Lists(frozenset(range(10)), frozenset())))


def test_an_answer_with_the_other_secret_is_refused_by_the_grid():
    made = reported(without=[9])
    made.answer()
    with pytest.raises(SecureMessageError, match="not reported"):
        check_answer(made.terms, made.lists, 9, made.answers[0])
    changed = bytearray(made.answers[0])
    changed[-33] = 1  # what stands before the share of worker 9, who is missing
    with pytest.raises(SecureMessageError, match="the secret that was not asked for"):
        check_answer(made.terms, made.lists, 0, bytes(changed))


def test_reporters_in_two_groups_are_refused():
    made = reported(120, sizes=(3,))
    reach, circle = made.terms.parameters.degree // 2, made.terms.graph._circle
    alone = circle[50]
    cut = circle[50 - reach : 50] + circle[51 : 51 + reach]
    lists = Lists(frozenset(range(120)) - frozenset(cut), frozenset(cut))
    assert len(lists.reported) < made.terms.parameters.fewest, "the degree is more than may drop out"
    lax = dataclasses.replace(made.terms.parameters, dropout=400)
    terms = dataclasses.replace(made.terms, manifest=dataclasses.replace(made.manifest, parameters=lax))
    assert alone in lists.reported
    with pytest.raises(SecureMessageError, match="two groups without masks in common"):
        lists.check(terms, frozenset(range(120)))
    with pytest.raises(SecureRoundError, match="two groups"):
        lists_of(terms, frozenset(range(120)), lists.reported)


# Different lists to different workers


def with_both(made, victim, first, second):
    """How many shares of each secret of a worker a grid gets that tells two groups two pairs of lists."""
    told = {}
    for number, worker in enumerate(made.workers):
        lists = (first, second)[number % 2]
        try:
            told[number] = check_answer(made.terms, lists, number, worker.answer(asked(made, lists)))
        except SecureMessageError:
            continue
    held = [answers.get(victim) for number, answers in told.items() if number % 2 == 0]
    other = [answers.get(victim) for number, answers in told.items() if number % 2 == 1]
    return sum(share is not None for share in held), sum(share is not None for share in other)


def two_lists(workers, victim):
    everybody = frozenset(range(workers))
    return Lists(everybody, frozenset()), Lists(everybody - {victim}, frozenset({victim}))


def test_among_100_an_honest_majority_is_needed_for_each_secret():
    made = reported(100, sizes=(3,))
    own, mask = with_both(made, 2, *two_lists(100, 2))

    assert (own, mask) == (50, 50)
    assert max(own, mask) < made.terms.parameters.threshold == 56
    # Ten corrupt workers tell both of their shares: 60 of one, and then no more than 50 of the other.
    assert own + mask + 10 < 2 * made.terms.parameters.threshold


def test_what_a_lying_grid_gets_at_the_level_for_an_honest_one():
    """With a sparse graph both secrets are within reach: `honest` promises nothing here, and docs say so."""
    made = reported(200, sizes=(3,))
    own, mask = with_both(made, 2, *two_lists(200, 2))

    assert min(own, mask) >= made.terms.parameters.threshold == 21


def test_why_a_threshold_alone_does_not_stop_a_lying_grid():
    """Each holder is told other lists, and each would pass; together they give all neighbours' mask keys.

    So signatures are needed. This is counting, at the parameters for 1000 workers.
    """
    given = parameters_for(1000, Trust.LYING)
    graph = NeighbourGraph(1000, given.degree, bytes(32))
    victim, most = 0, given.workers - given.fewest
    neighbours = set(graph.neighbours(victim))
    shares = dict.fromkeys(neighbours, 0)
    for holder in range(1000):
        asked_for = sorted(neighbours & set(graph.holders(holder)) - {holder}, key=shares.__getitem__)[:most]
        reported = set(range(1000)).difference(asked_for)
        assert len(reported) >= given.fewest
        assert {holder, victim} <= reported
        assert graph.are_connected(reported)
        for worker in asked_for:
            shares[worker] += 1

    assert min(shares.values()) >= given.threshold


@pytest.mark.some(2)
@pytest.mark.parametrize("workers", [100, 200])
def test_where_the_grid_may_lie_workers_answer_only_what_enough_have_signed(workers):
    made = reported(workers, Trust.LYING, sizes=(3,))
    first, second = two_lists(workers, 2)
    quorum = made.terms.parameters.quorum
    with pytest.raises(SecureMessageError, match="the signatures of reports have 0 bytes"):
        made.workers[0].answer(asked(made, first))

    signed = {0: {}, 1: {}}
    for number, worker in enumerate(made.workers):
        lists = (first, second)[number % 2]
        if number in lists.reported:
            signed[number % 2][number] = worker.agree(lists.serialize(workers))
    for parity, lists in enumerate((first, second)):
        with pytest.raises(SecureRoundError, match="signed who has reported"):
            question_of(made.terms, lists, made.reports, signed[parity])
        question = forced(made, lists, signed[parity])
        with pytest.raises(SecureMessageError, match=f"agree on who has reported, and {quorum} are"):
            made.workers[parity].answer(question)
    with pytest.raises(SecureMessageError, match="with other lists"):
        made.workers[0].agree(second.serialize(workers))


def forced(made, lists, agreements):
    """The question that a grid makes in spite of too few agreements."""
    reports = [read(ReportMessage, made.reports[number], "a report") for number in sorted(lists.reported)]
    signed = [read(AgreementMessage, agreements[number], "an agreement") for number in sorted(agreements)]
    told = QuestionMessage(
        lists=lists.serialize(len(made.workers)),
        reports=b"".join(report.signature for report in reports),
        agreed=bitmap_of(agreements, len(made.workers)),
        agreements=b"".join(agreement.signature for agreement in signed),
    )
    return written(told)


def test_signatures_that_are_made_up_are_refused():
    made = reported(10, Trust.LYING)
    made.agree()
    made.agreements[9] = written(AgreementMessage(signature=bytes(64)))
    with pytest.raises(SecureMessageError, match="signature"):
        made.workers[0].answer(made.question())


def test_a_worker_that_was_told_of_other_sharers_keeps_its_own_mask():
    """Told that few of its neighbours share, a worker has few masks in common: its own must stay."""
    made = SecureRound(10, Trust.LYING)
    made.share()
    fewer = deliveries(made.terms, {number: made.shares[number] for number in range(7)})
    victim = made.workers[0]
    victim.receive(fewer[0])
    tricked = victim.report(made.payloads[0])
    with pytest.raises(SecureMessageError, match="signature"):
        check_report(made.terms, made.shares, None, 0, tricked)

    for number in range(1, 10):
        made.workers[number].receive(made.deliveries[number])
        made.reports[number] = made.workers[number].report(made.payloads[number])
    made.reports[0] = tricked
    made.lists = Lists(frozenset(range(10)), frozenset())
    for number in range(1, 10):
        made.agreements[number] = made.workers[number].agree(made.listed)
    for number in range(1, 10):
        with pytest.raises(SecureMessageError, match="signature"):
            made.workers[number].answer(made.question())


def test_a_signed_question_is_refused_where_nobody_signs():
    made = reported()
    found = read(QuestionMessage, made.question(), "a question")
    found.agreed = b"\xff\x03"
    with pytest.raises(SecureMessageError, match="nobody signs in this round"):
        made.workers[0].answer(written(found))


def test_workers_that_were_told_of_different_sharers_give_noise():
    made = SecureRound(10)
    made.share()
    fewer = deliveries(made.terms, {number: made.shares[number] for number in range(9)})
    for number in range(10):
        made.workers[number].receive((fewer if number < 5 else made.deliveries)[number])
        made.reports[number] = made.workers[number].report(made.payloads[number])
    made.lists = Lists(frozenset(range(9)), frozenset({9}))
    for number in range(5, 9):
        made.answers[number] = made.workers[number].answer(made.question())
    for number in range(5):
        with pytest.raises(SecureMessageError, match="not those of the workers that have shared"):
            made.workers[number].answer(made.question())
    del made.reports[9]
    with pytest.raises(SecureRoundError, match="4 workers answered"):
        made.unmask()
    masked = MaskedSum(made.terms, frozenset(made.shares))
    with pytest.raises(SecureRoundError, match="not that of the workers"):
        unmask(made.terms, made.lists, made.shares, masked, made.answers)
