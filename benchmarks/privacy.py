"""Secure aggregation: a worker's masks, the grid's unmasking beside its floor, and what a worker sends."""

import dataclasses
import math
import statistics
import time

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from benchmarks.line import Line, Options
from benchmarks.timing import Comparison, duration, quartiles
from fedplan.federation.secure import (
    Lists,
    Manifest,
    Masked,
    MaskedSum,
    MaskStreams,
    Payload,
    Received,
    Roster,
    RosterMember,
    SecureWorker,
    Terms,
    deliveries,
    digest_of_bytes,
    parameters_for,
    payload_of,
    unmask,
    usual_figures,
)
from fedplan.federation.secure import keys as derivation
from fedplan.federation.secure.answers import PIECE_BYTES, answer_of
from fedplan.federation.secure.envelopes import ENVELOPE_BYTES
from fedplan.federation.secure.messages import AnswerMessage, ReportMessage, SharesMessage, written
from fedplan.federation.secure.shamir import SHARE_BYTES, draw_below_prime, split

VALUES = 311_000
"""Parameters of the MLP 784-392-10."""

_CYCLE = "benchmark"
_RECEIVED = Received(digest_of_bytes(b"model"), {"training_plan/list": bytes(32)}, digest_of_bytes(b"{}"))


def run(options: Options) -> list[Line]:
    """The table's lines."""
    few, many = (10, 20) if options.smoke else (100, 1000)
    values = 1000 if options.smoke else VALUES
    name = f"{values // 1000}k values"
    masks, terms = _worker(few, values, options.rounds(9))
    unmasking = _unmasking(many, values, options.rounds(3))
    return [
        _seconds(f"worker's masks, {few} workers, {name}", masks, 0.1),
        unmasking.line(f"unmasking, {many} workers, 30 % missing, {name}, against its floor", 1.6),
        _bytes_up(terms, few),
        _bytes_up(_terms([_seeds() for _ in range(many)], values), many),
    ]


def _terms(seeds: list[tuple[bytes, X25519PrivateKey]], values: int) -> Terms:
    """Those of a round of workers of whom all secrets are known."""
    return _announced(Roster.of(_member(seed, key) for seed, key in seeds), values)


def _announced(roster: Roster, values: int) -> Terms:
    workers = len(roster)
    manifest = Manifest(
        cycle=_CYCLE,
        model=_RECEIVED.model,
        plans=_RECEIVED.plans,
        client_config=_RECEIVED.client_config,
        roster=roster.digest,
        parameters=parameters_for(workers),
        value_bits=8,
        sizes=(values,),
        exponents=(-7,),
        most_weight=1.0,
        figures=usual_figures(workers, 1.0, {"loss": 100.0}),
    )
    return Terms.of(manifest, roster)


def _seeds() -> tuple[bytes, X25519PrivateKey]:
    return draw_below_prime().to_bytes(SHARE_BYTES, "big"), X25519PrivateKey.generate()


def _member(mask_seed: bytes, share_key: X25519PrivateKey) -> RosterMember:
    return RosterMember.of(
        derivation.mask_pair(mask_seed).public_key().public_bytes_raw(),
        share_key.public_key().public_bytes_raw(),
        _CYCLE,
        None,
    )


def _payload(terms: Terms) -> Payload:
    update = 0.1 * np.random.default_rng(0).standard_normal(terms.manifest.values)
    return payload_of(terms.manifest, [update], {"weight": 1.0, "loss × weight": 0.5, "weight of loss": 1.0})[
        0
    ]


def _worker(workers: int, values: int, rounds: int) -> tuple[list[float], Terms]:
    """Seconds of processor time in which workers mask and pack their reports, in a whole round."""
    joined = [SecureWorker(_CYCLE) for _ in range(workers)]
    terms = _announced(Roster.of(RosterMember.parse(worker.keys) for worker in joined), values)
    for worker in joined:
        worker.join(terms.serialize(), _RECEIVED)
    delivered = deliveries(terms, {worker.number: worker.share() for worker in joined})
    payload, taken = _payload(terms), []
    for worker in joined[:rounds]:
        worker.receive(delivered[worker.number])
        begin = time.process_time()
        worker.report(payload)
        taken.append(time.process_time() - begin)
    return taken, terms


@dataclasses.dataclass(frozen=True)
class _Asked:
    """All that a grid has before it unmasks, and how many masks it takes off."""

    terms: Terms
    lists: Lists
    shares: dict[int, bytes]
    answers: dict[int, bytes]
    total: Masked
    payload: Payload
    pairs: int

    def unmask(self) -> None:
        """Takes the masks off, and sees that the sum is right."""
        masked = MaskedSum(self.terms, frozenset(self.shares))
        masked.workers.update(self.lists.reported)
        masked.total.add(self.total)
        found = unmask(self.terms, self.lists, self.shares, masked, self.answers)
        assert np.array_equal(found.values, self.payload.values * len(self.lists.reported))

    def floor(self) -> None:
        """As many streams, additions and exchanges, and nothing else."""
        manifest = self.terms.manifest
        streams = MaskStreams(Masked.zeros(manifest.ring, manifest.values, len(manifest.figures)))
        private = X25519PrivateKey.generate()
        for _ in range(len(self.lists.reported)):
            streams.add(bytes(32))
        for number in range(self.pairs):
            private.exchange(self.terms.mask_keys[number % len(self.terms.roster)])
            streams.add(bytes(32))


def _unmasking(workers: int, values: int, rounds: int) -> Comparison:
    asked = _asked(workers, values)
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(rounds):
        for side, taken in ((asked.unmask, ours), (asked.floor, theirs)):
            begin = time.process_time()
            side()
            taken.append(time.process_time() - begin)
    return Comparison(ours, theirs)


def _asked(workers: int, values: int) -> _Asked:
    """A round in which 30 % have shared and not reported. All workers report the same numbers.

    Their secrets are drawn here, so that the masks that cancel need not be made.
    """
    seeds = [_seeds() for _ in range(workers)]
    terms = _terms(seeds, values)
    by_key = {_member(*pair).mask_key: pair[0] for pair in seeds}
    mask_seeds = [by_key[member.mask_key] for member in terms.roster]
    self_seeds = [draw_below_prime().to_bytes(SHARE_BYTES, "big") for _ in range(workers)]
    reported = range(workers * 3 // 10, workers)
    lists = Lists(frozenset(reported), frozenset(range(reported.start)))
    held: dict[int, dict[int, bytes]] = {number: {} for number in range(workers)}
    for owner in range(workers):
        for holder, shares in _dealt(terms, owner, self_seeds[owner], mask_seeds[owner]).items():
            held[holder][owner] = shares
    payload = _payload(terms)
    total, pairs = _masked_total(terms, lists, payload, self_seeds, mask_seeds)
    return _Asked(
        terms,
        lists,
        {n: _shares(terms, derivation.commitment_of(self_seeds[n], terms.digest, n)) for n in range(workers)},
        {number: answer_of(lists, held[number]) for number in reported},
        total,
        payload,
        pairs,
    )


def _dealt(terms: Terms, owner: int, *secrets: bytes) -> dict[int, bytes]:
    holders = terms.graph.holders(owner)
    points = [holder + 1 for holder in holders]
    threshold = terms.parameters.threshold
    dealt = [split(int.from_bytes(secret, "big"), threshold, points) for secret in secrets]
    return {
        holder: b"".join(share.to_bytes(SHARE_BYTES, "big") for share in shares)
        for holder, *shares in zip(holders, *dealt, strict=True)
    }


def _masked_total(
    terms: Terms, lists: Lists, payload: Payload, self_seeds: list[bytes], mask_seeds: list[bytes]
) -> tuple[Masked, int]:
    """The sum of the reports, under the masks that do not cancel, and how many of those are of pairs."""
    manifest, pairs = terms.manifest, 0
    total = Masked.zeros(manifest.ring, manifest.values, len(manifest.figures))
    streams = MaskStreams(total)
    for worker in lists.reported:
        total.add(payload.masked(manifest))
        streams.add(derivation.self_key(self_seeds[worker], terms.digest, worker))
    for worker in lists.missing:
        private = derivation.mask_pair(mask_seeds[worker])
        for other in terms.graph.neighbours(worker):
            if other in lists.reported:
                pairs += 1
                key = derivation.pair_key(private, terms.mask_keys[other], terms.digest, worker, other)
                (streams.add if worker > other else streams.subtract)(key)
    return total, pairs


def _shares(terms: Terms, commitment: bytes) -> bytes:
    """A message of shares; the grid does not look into envelopes."""
    return written(
        SharesMessage(commitment=commitment, envelopes=bytes(ENVELOPE_BYTES * terms.parameters.degree))
    )


def _bytes_up(terms: Terms, workers: int) -> Line:
    """All that a worker sends in a round, beside its parameters as float32."""
    masked = _payload(terms).masked(terms.manifest)
    sent = [
        terms.roster[0].serialize(),
        _shares(terms, bytes(32)),
        written(ReportMessage(vector=masked.ring.pack(masked.vector), figures=masked.figures.tobytes())),
        written(AnswerMessage(shares=bytes(PIECE_BYTES * (terms.parameters.degree + 1)))),
    ]
    ours, theirs = sum(map(len, sent)), 4 * terms.manifest.values
    ratio = ours / theirs
    what = f"bytes up per worker, {workers} workers, against float32"
    target = math.inf if terms.manifest.values < VALUES else 0.6
    return Line(what, f"{ours:,} B", f"{theirs:,} B", ratio, (ratio, ratio), target)


def _seconds(what: str, taken: list[float], target: float) -> Line:
    value = statistics.median(taken)
    return Line(what, duration(value), "", value, quartiles(taken), target, "s")
