"""Whole rounds: the sum is that of the survivors, or there is none."""

import random

import numpy as np
import pytest

from fedplan.errors import SecureMessageError, SecureRoundError
from fedplan.federation.secure import SecureWorker, Trust, average_of
from fedplan.federation.secure.messages import WorkerMessage, written
from tests.federation.secure.rounds import MOST_WEIGHT, SecureRound, reported


def spread(workers, gone, stages, seed):
    """Who drops out at which of the stages: as many in all as may, a few at each."""
    leaving = random.Random(seed).sample(range(workers), gone)
    return [leaving[stage::stages] for stage in range(stages)]


def assert_is_the_sum(made, total, workers):
    values, figures = made.plain_sum(workers)
    assert np.array_equal(total.values, values)
    assert total.figures == figures


@pytest.mark.some(2)
@pytest.mark.parametrize("trust", Trust)
@pytest.mark.parametrize("workers", [3, 10, 50, 100])
def test_with_as_many_gone_as_may_be_the_sum_is_that_of_who_reported(workers, trust):
    made = SecureRound(workers, trust)
    gone = workers - made.terms.parameters.fewest
    sharing, reporting, agreeing, answering = spread(workers, gone, 4, seed=workers)
    # Who is gone when the lists are signed is gone when shares are asked for, too.
    total = made.run(sharing, reporting, agreeing, [*agreeing, *answering])

    assert gone == workers * 3 // 10
    assert_is_the_sum(made, total, set(range(workers)) - {*sharing, *reporting})


@pytest.mark.some(2)
@pytest.mark.parametrize("trust", Trust)
def test_in_a_sparse_graph_too(trust):
    made = SecureRound(120, trust, sizes=(40,))
    assert not made.terms.parameters.is_complete
    sharing, reporting, agreeing, answering = spread(120, 36, 4, seed=1)
    total = made.run(sharing, reporting, agreeing, [*agreeing, *answering])

    assert_is_the_sum(made, total, set(range(120)) - {*sharing, *reporting})


@pytest.mark.parametrize("stage", ["sharing", "reporting", "answering"])
def test_all_that_may_can_be_gone_at_one_stage(stage):
    made = SecureRound(10)
    total = made.run(**{stage: [1, 4, 9]})

    assert_is_the_sum(made, total, set(range(10)) - ({1, 4, 9} if stage != "answering" else set()))


def test_the_average_is_weighted():
    made = SecureRound(10)
    average = average_of(made.manifest, made.run(reporting=[3]))
    survivors = [payload for number, payload in enumerate(made.payloads) if number != 3]
    weights = [payload.figures[1] / 2**32 for payload in survivors]

    assert average.figures["workers"] == 9
    assert average.figures["weight"] == sum(weights)
    assert 0 < average.figures["loss × weight"] / average.figures["weight of loss"] < 1
    steps = np.sum([payload.values[:5] for payload in survivors], axis=0)
    expected = steps * 2.0**-6 * MOST_WEIGHT / sum(weights)
    np.testing.assert_allclose(average.tensors[0], expected, rtol=1e-14)
    assert [len(tensor) for tensor in average.tensors] == [5, 0, 12]


@pytest.mark.parametrize("workers", [10, 50, 100])
def test_too_few_at_a_stage_end_the_round_without_a_sum(workers):
    more = range(workers * 3 // 10 + 1)
    made = SecureRound(workers)
    with pytest.raises(SecureRoundError, match=r"shared their secrets.*nothing of any report was unmasked"):
        made.share(more)
    made.share()
    with pytest.raises(SecureRoundError, match=r"reported, and .* are needed"):
        made.report(more)


def test_too_few_that_sign_the_lists_end_the_round_without_a_sum():
    with pytest.raises(SecureRoundError, match="5 workers signed who has reported, and 6 are needed"):
        SecureRound(10, Trust.LYING).run(agreeing=range(5))


def test_too_few_answers_end_the_round_without_a_sum():
    made = SecureRound(10)
    with pytest.raises(SecureRoundError, match="5 workers answered, and of 10 secrets fewer than 6 shares"):
        made.run(answering=range(5))


def test_a_round_after_one_that_failed_works():
    with pytest.raises(SecureRoundError):
        SecureRound(10, cycle="digits/1/7").run(reporting=range(4))
    made = SecureRound(10, cycle="digits/1/8")

    assert_is_the_sum(made, made.run(), range(10))


def test_what_was_sent_twice_is_the_same():
    made = SecureRound(10)
    made.share()
    worker = made.workers[4]
    assert worker.share() == made.shares[4]
    made.report([0])
    worker.receive(made.deliveries[4])
    assert worker.report(made.payloads[4]) == made.reports[4]
    made.answer()
    assert worker.answer(made.question()) == made.answers[4]
    assert_is_the_sum(made, made.unmask(), range(1, 10))


@pytest.mark.parametrize("trust", Trust)
def test_workers_can_move_to_another_process_at_every_stage(trust):
    made = SecureRound(10, trust)
    signers = [worker._signer for worker in made.workers]

    def moved():
        made.workers = [
            SecureWorker.restore(worker.serialize(), made.expectations, signer=signer)
            for worker, signer in zip(made.workers, signers, strict=True)
        ]

    for stage in (made.share, made.report, made.agree, made.answer):
        moved()
        stage()
    moved()
    assert made.workers[2].answer(made.question()) == made.answers[2]
    assert_is_the_sum(made, made.unmask(), range(10))


def test_a_worker_that_has_answered_has_no_secrets_left():
    made = SecureRound(10)
    before = made.workers[0].serialize()
    made.run()
    after = made.workers[0].serialize()
    made.workers[0].receive(made.deliveries[0])
    assert made.workers[0].share() == made.shares[0], "what was sent can still be sent again"
    secrets = [made.workers[0]._state.mask_seed, made.workers[0]._state.share_key]

    assert secrets == [b"", b""]
    assert len(after) < len(before) + 4000
    with pytest.raises(SecureMessageError, match="over for this worker"):
        made.workers[0].report(made.payloads[0])


def test_one_worker_with_wrong_shares_does_not_end_the_round():
    made = SecureRound(10)
    made.share()
    made.report([7])
    made.answer()
    answer = bytearray(made.answers[3])
    for place in range(len(answer) - 20, len(answer) - 330, -33):
        answer[place] ^= 1
    made.answers[3] = bytes(answer)

    assert_is_the_sum(made, made.unmask(), set(range(10)) - {7})


def test_shares_that_give_no_secret_end_the_round():
    made = SecureRound(10)
    made.share()
    made.report()
    made.answer([8, 9])
    for number in (0, 1, 2, 3):
        made.answers[number] = made.answers[number][:-1] + bytes([made.answers[number][-1] ^ 1])
    with pytest.raises(SecureRoundError, match="shares of worker 9 do not give its secret"):
        made.unmask()


def test_a_report_with_which_no_sum_can_be_right_ends_the_round():
    made = SecureRound(10)
    made.share()
    made.report()
    made.answer()
    made.reports[5] = made.reports[5][:-1] + bytes([made.reports[5][-1] ^ 0x40])  # high in the last figure
    with pytest.raises(SecureRoundError, match="cannot have the sum that is left of 'weight of loss'"):
        made.unmask()


def test_the_sum_is_only_taken_of_who_reported():
    made = SecureRound(10)
    made.share()
    made.report()
    made.answer()
    del made.reports[0]
    with pytest.raises(SecureRoundError, match="not that of the workers"):
        made.unmask()


def damaged(made, **changes):
    """The state of worker 0 with other values, as bytes."""
    state = WorkerMessage.decode(made.workers[0].serialize())
    for name, value in changes.items():
        setattr(state, name, value)
    return written(state)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"share_key": b"short"}, "share_key has another size"),
        ({"mask_seed": b""}, "mask_seed has another size"),
        ({"own_shares": b""}, "own_shares has another size"),
        ({"announcement": b""}, "messages of a stage, and none before"),
        ({"announcement": SecureRound(10, seed=1).announcement}, "does not have this worker's keys"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value.partition(",")[0],
)
def test_the_damaged_state_of_a_worker_is_refused_with_the_reason(changes, why):
    with pytest.raises(SecureMessageError, match=why):
        SecureWorker.restore(damaged(reported(), **changes))
