"""A grid that cheats gets noise or a refusal: one test for each way, up to the masked reports."""

import dataclasses

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedplan.errors import SecureMessageError
from fedplan.federation.secure import (
    Expectations,
    Lists,
    MaskedSum,
    Received,
    Roster,
    SecureWorker,
    Terms,
    Trust,
    check_keys,
    check_report,
    deliveries,
    digest_of_bytes,
)
from tests.federation.secure.rounds import (
    CYCLE,
    RECEIVED,
    SecureRound,
    asked,
    drawn_from,
    manifest_for,
    reported,
)

OTHER = Received(digest_of_bytes(b"another model"), RECEIVED.plans, RECEIVED.client_config)


# Two models


def test_a_worker_that_got_another_model_than_the_manifest_says_refuses():
    made = SecureRound(10)
    with pytest.raises(SecureMessageError, match="the model that was downloaded is not the one"):
        made.workers[0].join(made.announcement, OTHER)


@pytest.mark.parametrize(
    ("received", "what"),
    [
        (dataclasses.replace(RECEIVED, client_config=digest_of_bytes(b'{"lr": 9}')), "client_config"),
        (dataclasses.replace(RECEIVED, plans={"training_plan/list": bytes(32)}), "Plan 'training_plan/list'"),
        (dataclasses.replace(RECEIVED, plans={"training_plan/onnx": bytes(32)}), "Plan 'training_plan/onnx'"),
        (dataclasses.replace(RECEIVED, plans={}), "no Plan"),
    ],
)
def test_a_worker_that_got_anything_else_than_the_manifest_says_refuses(received, what):
    made = SecureRound(10)
    with pytest.raises(SecureMessageError, match=what):
        made.workers[0].join(made.announcement, received)


def two_manifests(workers=10):
    """Workers of one roster, the first of which are told of another model than the others."""
    joined, members = [], []
    for place in range(workers):
        joined.append(SecureWorker(CYCLE, draw=drawn_from(place)))
        members.append(check_keys(joined[-1].keys, CYCLE, Trust.HONEST, (), members))
    roster = Roster.of(members)
    joined.sort(key=lambda worker: roster.members.index(worker._member))
    one = Terms.of(manifest_for(roster), roster)
    other = Terms.of(manifest_for(roster, received=OTHER), roster)
    for number, worker in enumerate(joined):
        worker.join(*((other.serialize(), OTHER) if number < 3 else (one.serialize(), RECEIVED)))
    return joined, one, other


def test_workers_of_two_models_cannot_read_each_others_shares():
    workers, one, _ = two_manifests()
    delivered = deliveries(one, {number: worker.share() for number, worker in enumerate(workers)})

    for number in (0, 9):
        with pytest.raises(SecureMessageError, match="workers were told different things"):
            workers[number].receive(delivered[number])


def test_a_second_manifest_for_the_same_keys_is_refused():
    workers, _, other = two_manifests()
    with pytest.raises(SecureMessageError, match="another round than before"):
        workers[9].join(other.serialize(), OTHER)


# The manifest and the roster


def test_a_manifest_of_another_cycle_is_refused():
    made = SecureRound(10)
    late = Terms.of(manifest_for(made.terms.roster, cycle="digits/1/8"), made.terms.roster)
    worker = made.workers[0]
    worker._state.announcement, worker._terms = b"", None  # as if it had not joined
    with pytest.raises(SecureMessageError, match="another cycle"):
        worker.join(late.serialize(), RECEIVED)


def test_a_roster_that_the_manifest_does_not_name_is_refused():
    made = SecureRound(10)
    with pytest.raises(SecureMessageError, match="not the one that the manifest names"):
        Terms.of(made.manifest, Roster(made.terms.roster.members[:9]))


def test_a_worker_twice_in_the_roster_is_refused():
    made = SecureRound(10)
    members = made.terms.roster.members
    twice = Roster((*members[:9], dataclasses.replace(members[8], share_key=members[9].share_key)))
    manifest = manifest_for(twice)
    with pytest.raises(SecureMessageError, match="in the roster twice: two have the same mask key"):
        Terms.parse(Terms.of(manifest, twice).serialize())


def test_a_worker_that_comes_twice_is_refused():
    worker = SecureWorker(CYCLE)
    member = check_keys(worker.keys, CYCLE, Trust.HONEST, (), [])
    with pytest.raises(SecureMessageError, match="in the round already"):
        check_keys(worker.keys, CYCLE, Trust.HONEST, (), [member])


def test_one_identity_with_two_pairs_of_keys_is_refused():
    signer = Ed25519PrivateKey.generate()
    registered = {signer.public_key().public_bytes_raw()}
    one, other = (SecureWorker(CYCLE, signer=signer) for _ in range(2))
    member = check_keys(one.keys, CYCLE, Trust.LYING, registered, [])
    with pytest.raises(SecureMessageError, match="same key or identity"):
        check_keys(other.keys, CYCLE, Trust.LYING, registered, [member])


def test_a_roster_without_the_workers_own_keys_is_refused():
    made = SecureRound(10)
    stranger = SecureWorker(CYCLE)
    with pytest.raises(SecureMessageError, match="does not hold the keys that this worker has sent"):
        stranger.join(made.announcement, RECEIVED)


def test_workers_that_nobody_registered_are_refused_where_the_grid_may_lie():
    made = SecureRound(10, Trust.LYING)
    few = Expectations(Trust.LYING, registered=frozenset(list(made.registered)[:9]))
    worker = SecureWorker.restore(made.workers[0].serialize(), few, signer=made.workers[0]._signer)
    with pytest.raises(SecureMessageError, match="no registered identity: the grid might play it itself"):
        worker.join(made.announcement, RECEIVED)


def test_keys_that_were_signed_for_another_cycle_are_refused():
    signer = Ed25519PrivateKey.generate()
    registered = {signer.public_key().public_bytes_raw()}
    worker = SecureWorker("digits/1/6", signer=signer)
    with pytest.raises(SecureMessageError, match="signature"):
        check_keys(worker.keys, CYCLE, Trust.LYING, registered, [])


@pytest.mark.parametrize(
    ("expectations", "why"),
    [
        (Expectations(Trust.LYING), "only where the grid may be lying"),
        (Expectations(fewest=8), "over 7 reports, and this worker asks for at least 8"),
        (Expectations(corrupt=200), "with 10 % of the workers corrupt, and this worker asks for 20 %"),
    ],
)
def test_a_round_that_promises_less_than_a_worker_asks_for_is_refused(expectations, why):
    made = SecureRound(10)
    worker = SecureWorker.restore(made.workers[0].serialize(), expectations)
    with pytest.raises(SecureMessageError, match=why):
        worker.join(made.announcement, RECEIVED)


# Shares


def test_shares_of_an_earlier_round_are_refused():
    made, earlier = SecureRound(10, seed=1), SecureRound(10, seed=2, cycle="digits/1/6")
    made.share()
    earlier.share()
    with pytest.raises(SecureMessageError, match="are of another round"):
        made.workers[0].receive(earlier.deliveries[0])


def test_shares_for_another_worker_are_refused():
    made = SecureRound(10)
    made.share()
    with pytest.raises(SecureMessageError, match="not sealed by it for worker 0"):
        made.workers[0].receive(made.deliveries[1])


def test_shares_of_a_worker_in_the_place_of_anothers_are_refused():
    made = SecureRound(10)
    made.share()
    delivery = made.deliveries[0]
    swapped = delivery[:-160] + delivery[-80:] + delivery[-160:-80]
    with pytest.raises(SecureMessageError, match="said to be of worker 8"):
        made.workers[0].receive(swapped)


def test_a_second_delivery_is_refused():
    made = SecureRound(10)
    made.share()
    made.workers[0].receive(made.deliveries[0])
    fewer = deliveries(made.terms, {n: shares for n, shares in made.shares.items() if n != 5})
    with pytest.raises(SecureMessageError, match="delivered other shares before"):
        made.workers[0].receive(fewer[0])


def test_too_few_that_have_shared_are_refused():
    made = SecureRound(10)
    made.share()
    parameters = dataclasses.replace(made.terms.parameters, dropout=400, corrupt=0)
    lax = dataclasses.replace(made.terms, manifest=dataclasses.replace(made.manifest, parameters=parameters))
    delivered = deliveries(lax, {number: made.shares[number] for number in range(6)})
    with pytest.raises(SecureMessageError, match=r"6 workers have shared, and .* at least 7"):
        made.workers[0].receive(delivered[0])


# Reports


def test_a_worker_never_masks_two_reports_alike():
    made = reported()
    with pytest.raises(SecureMessageError, match="both could be read"):
        made.workers[0].report(made.payloads[1])


def test_a_masked_report_tells_nothing_and_all_of_them_but_one_neither():
    """What the grid holds without answers is spread over the whole ring."""
    made = reported(10, sizes=(4000,))
    masked = MaskedSum(made.terms, frozenset(made.shares))
    masked.add(0, made.reports[0])
    alone = masked.total.ring.reduced(masked.total.vector.copy())
    for number in range(1, 10):
        masked.add(number, made.reports[number])
    together = masked.total.ring.reduced(masked.total.vector)

    for residues in (alone, together):
        counts = np.bincount(residues >> 8, minlength=16)  # 16 parts of the ring of 12 bits
        assert ((counts - 250) ** 2 / 250).sum() < 60, "chi-square, 15 degrees of freedom"


def test_a_report_that_comes_after_it_was_settled_who_reported_is_refused_and_useless():
    made = reported(without=[0])
    late = made.workers[0]
    late.receive(made.deliveries[0])
    report = late.report(made.payloads[0])
    with pytest.raises(SecureMessageError, match="after it was settled who has reported: it is not kept"):
        check_report(made.terms, made.shares, made.lists, 0, report)

    # A grid that keeps it needs the worker's own mask, too; nobody gives that beside the other secret.
    made.answer()
    everybody = Lists(frozenset(range(10)), frozenset())
    for number in range(1, 10):
        with pytest.raises(SecureMessageError, match="asks a second time"):
            made.workers[number].answer(asked(made, everybody))
    with pytest.raises(SecureMessageError, match="the grid says that it has not"):
        late.answer(made.question())


def test_a_report_of_who_has_not_shared_is_refused():
    made = SecureRound(10)
    made.share([4])
    made.report()
    with pytest.raises(SecureMessageError, match="has not shared"):
        check_report(made.terms, made.shares, None, 4, made.reports[5])
