"""Whole secure rounds in memory: workers and a grid that exchange nothing but bytes."""

import hashlib
import itertools

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fedplan.federation.secure import (
    Expectations,
    Manifest,
    MaskedSum,
    Received,
    Roster,
    SecureWorker,
    Terms,
    Trust,
    check_agreement,
    check_answer,
    check_keys,
    check_report,
    check_shares,
    deliveries,
    digest_of_bytes,
    lists_of,
    parameters_for,
    payload_of,
    question_of,
    unmask,
    usual_figures,
)
from fedplan.federation.secure.messages import QuestionMessage, written

CYCLE = "digits/1/7"
RECEIVED = Received(
    digest_of_bytes(b"model"), {"training_plan/list": digest_of_bytes(b"plan")}, digest_of_bytes(b"{}")
)
SIZES = (5, 0, 12)
MOST_WEIGHT = 600.0
LOSS = "loss"


def drawn_from(seed):
    """Random bytes that are the same each time: for tests, of which a failure shall come again."""
    counter = itertools.count()

    def draw(size):
        blocks = (hashlib.sha256(f"{seed} {next(counter)}".encode()).digest() for _ in range(-(-size // 32)))
        return b"".join(blocks)[:size]

    return draw


def manifest_for(roster, trust=Trust.HONEST, cycle=CYCLE, sizes=SIZES, received=RECEIVED, **numbers):
    parameters = parameters_for(len(roster), trust, **numbers)
    return Manifest(
        cycle=cycle,
        model=received.model,
        plans=received.plans,
        client_config=received.client_config,
        roster=roster.digest,
        parameters=parameters,
        value_bits=8,
        sizes=sizes,
        exponents=tuple(-6 - place for place in range(len(sizes))),
        most_weight=MOST_WEIGHT,
        figures=usual_figures(parameters.workers, MOST_WEIGHT, {LOSS: 100.0}),
    )


class SecureRound:
    """A round as a grid drives it, stage by stage. What it has received is bytes by the workers' numbers.

    Workers whose numbers are left out at a stage have dropped out there.
    """

    def __init__(self, workers, trust=Trust.HONEST, *, seed=0, cycle=CYCLE, sizes=SIZES, **numbers):
        self.chance = np.random.default_rng(seed)
        signing = range(workers) if trust is Trust.LYING else ()
        signers = [Ed25519PrivateKey.from_private_bytes(drawn_from((seed, n))(32)) for n in signing]
        self.registered = frozenset(signer.public_key().public_bytes_raw() for signer in signers)
        self.expectations = Expectations(trust, registered=self.registered)
        joined, members = [], []
        for place in range(workers):
            signer = signers[place] if signers else None
            worker = SecureWorker(
                cycle, self.expectations, signer=signer, draw=drawn_from((seed, cycle, place))
            )
            members.append(check_keys(worker.keys, cycle, trust, self.registered, members))
            joined.append(worker)
        roster = Roster.of(members)
        self.manifest = manifest_for(roster, trust, cycle, sizes, **numbers)
        self.terms, self.drawing = Terms.of(self.manifest, roster), list(joined)
        self.announcement = self.terms.serialize()
        for worker in joined:
            worker.join(self.announcement, RECEIVED)
        self.workers = sorted(joined, key=lambda worker: worker.number)
        self.payloads = [self.payload() for _ in self.workers]
        self.shares, self.deliveries, self.reports, self.agreements, self.answers = {}, {}, {}, {}, {}
        self.lists = None

    def payload(self):
        tensors = [0.5 * self.chance.standard_normal(size) for size in self.manifest.sizes]
        weight = float(self.chance.integers(1, int(MOST_WEIGHT) + 1))
        figures = {
            "weight": weight,
            f"{LOSS} × weight": weight * self.chance.random(),
            f"weight of {LOSS}": weight,
        }
        return payload_of(self.manifest, tensors, figures, self.chance.bytes(32))[0]

    @property
    def everybody(self):
        return range(len(self.workers))

    def share(self, without=()):
        for number in set(self.everybody) - set(without):
            message = self.workers[number].share()
            check_shares(self.terms, number, message)
            self.shares[number] = message
        self.deliveries = deliveries(self.terms, self.shares)

    def report(self, without=()):
        for number in set(self.shares) - set(without):
            self.workers[number].receive(self.deliveries[number])
            message = self.workers[number].report(self.payloads[number])
            check_report(self.terms, self.shares, None, number, message)
            self.reports[number] = message
        self.lists = lists_of(self.terms, self.shares, self.reports)

    def agree(self, without=()):
        for number in set(self.reports) - set(without) if self.terms.signs else ():
            message = self.workers[number].agree(self.listed)
            check_agreement(self.terms, self.lists, number, message)
            self.agreements[number] = message

    def answer(self, without=()):
        question = self.question()
        for number in set(self.reports) - set(without):
            message = self.workers[number].answer(question)
            check_answer(self.terms, self.lists, number, message)
            self.answers[number] = message

    @property
    def listed(self):
        return self.lists.serialize(len(self.workers))

    def question(self):
        return question_of(self.terms, self.lists, self.reports, self.agreements)

    def unmask(self):
        masked = MaskedSum(self.terms, frozenset(self.shares))
        for number, message in self.reports.items():
            masked.add(number, message)
        return unmask(self.terms, self.lists, self.shares, masked, self.answers)

    def run(self, sharing=(), reporting=(), agreeing=(), answering=()):
        """The whole round, with who drops out at which stage. The sum."""
        self.share(sharing)
        self.report({*sharing, *reporting})
        self.agree(agreeing)
        self.answer(answering)
        return self.unmask()

    def plain_sum(self, workers):
        """What the sum must be: the payloads added up, without any masks."""
        values = sum(self.payloads[number].values for number in workers)
        figures = tuple(map(sum, zip(*(self.payloads[number].figures for number in workers), strict=True)))
        return values, figures


def reported(workers=10, trust=Trust.HONEST, without=(), **numbers):
    """A round in which everybody has reported but some, and nobody has been asked for shares."""
    made = SecureRound(workers, trust, **numbers)
    made.share()
    made.report(without)
    return made


def asked(made, lists):
    """The question with other lists, as a grid that cheats would make it; nobody has signed them."""
    return written(QuestionMessage(lists=lists.serialize(len(made.workers))))
