"""A worker in a secure round: what it sends at each stage, and what it refuses."""

import hashlib
import itertools
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedplan.errors import SecureAggregationError, SecureMessageError
from fedplan.federation.secure import keys
from fedplan.federation.secure.answers import answer_of, check_shared, checked_question
from fedplan.federation.secure.bitmaps import bitmap_of, members_of, pieces
from fedplan.federation.secure.envelopes import ENVELOPE_BYTES, SHARES_BYTES, opened, sealed
from fedplan.federation.secure.lists import Lists
from fedplan.federation.secure.messages import (
    AgreementMessage,
    DeliveryMessage,
    ReportMessage,
    SharesMessage,
    WorkerMessage,
    read,
    written,
)
from fedplan.federation.secure.payload import Payload
from fedplan.federation.secure.quantisation import most_of
from fedplan.federation.secure.roster import RosterMember
from fedplan.federation.secure.shamir import DRAWN, SHARE_BYTES, Draw, draw_below_prime, split
from fedplan.federation.secure.streams import MaskStreams
from fedplan.federation.secure.terms import Expectations, Received, Terms


class SecureWorker:
    """A worker's side of one secure round.

    Each method takes a message of the grid and gives the worker's own. Called again with the same, it gives
    the same bytes, so a call that may have got lost can be repeated; called with something else, it refuses.
    Where it refuses, it has said nothing; a worker that goes on no further has dropped out.

    Args:
        cycle: the name of the cycle in which it was accepted.
        expectations: what it asks of a round.
        signer: its registered key, for grids that may lie.
        draw: gives random bytes: the operating system's. Any other is for tests and known answers.
    """

    def __init__(
        self,
        cycle: str,
        expectations: Expectations | None = None,
        *,
        signer: Ed25519PrivateKey | None = None,
        draw: Draw = DRAWN,
    ) -> None:
        self._expectations = expectations or Expectations()
        self._signer = signer
        self._draw = draw
        self._terms: Terms | None = None
        self._number = -1
        self._shared: frozenset[int] = frozenset()
        self._held: dict[int, bytes] = {}
        self._common: dict[int, bytes] = {}
        mask_seed = draw_below_prime(draw).to_bytes(SHARE_BYTES, "big")
        share_key = X25519PrivateKey.from_private_bytes(draw(keys.KEY_BYTES))
        self._member = RosterMember.of(
            keys.mask_pair(mask_seed).public_key().public_bytes_raw(),
            share_key.public_key().public_bytes_raw(),
            cycle,
            signer,
        )
        self._state = WorkerMessage(
            cycle=cycle,
            mask_seed=mask_seed,
            share_key=share_key.private_bytes_raw(),
            keys=self._member.serialize(),
        )

    @classmethod
    def restore(
        cls,
        state: bytes,
        expectations: Expectations | None = None,
        *,
        signer: Ed25519PrivateKey | None = None,
        draw: Draw = DRAWN,
    ) -> Self:
        """The worker that `serialize` wrote. The other arguments are those that it was made with.

        Raises:
            SecureMessageError: it is something else.
        """
        found = read(WorkerMessage, state, "the state of a worker in a secure round")
        worker = cls(found.cycle, expectations, signer=signer, draw=draw)
        worker._state = found
        worker._member = RosterMember.parse(found.keys)
        worker._check_state()
        if found.announcement:
            worker._joined(Terms.parse(found.announcement))
        if found.delivery:
            worker._shared, envelopes = worker._delivered(found.delivery)
            worker._held = {} if found.answer else worker._opened(envelopes)
        return worker

    def serialize(self) -> bytes:
        """What it has kept so far, with all its secrets: to hand over to another process, never to store.

        A worker whose process died has dropped out. What was read from an older state could answer a second
        time, and so give its report away.
        """
        return written(self._state)

    @property
    def terms(self) -> Terms:
        """Of the round.

        Raises:
            SecureAggregationError: the worker has not joined yet.
        """
        if self._terms is None:
            raise SecureAggregationError("the worker has not joined the round: call join first")
        return self._terms

    @property
    def number(self) -> int:
        """Its place in the roster, from 0 on; -1 before it has joined."""
        return self._number

    @property
    def keys(self) -> bytes:
        """Stage 1, up: its public keys."""
        return self._state.keys

    def join(self, announcement: bytes, received: Received) -> Terms:
        """Stage 1, down: takes part in a round, if it is what it should be.

        Args:
            announcement: manifest and roster.
            received: digests of what was downloaded.

        Raises:
            SecureMessageError: it is not; or the worker has joined another one.
        """
        if self._terms is not None and announcement != self._state.announcement:
            raise SecureMessageError("the grid announced another round than before, with the same keys")
        terms = Terms.parse(announcement)
        self._expectations.check(terms, self._state.cycle, self._member, received)
        self._joined(terms)
        self._state.announcement = announcement
        return terms

    def share(self) -> bytes:
        """Stage 2, up: its secrets in shares, one envelope for each neighbour. It draws them once."""
        if not self._state.shares:
            self._draw_shares()
        return self._state.shares

    def receive(self, delivery: bytes) -> None:
        """Stage 2, down: takes the shares of its neighbours.

        Raises:
            SecureMessageError: too few have shared, or a share is not from this round or for this worker.
        """
        if not self._state.shares:
            raise SecureMessageError("the grid delivers shares, and this worker has not shared yet")
        if self._state.delivery:
            if delivery != self._state.delivery:
                raise SecureMessageError("the grid delivered other shares before: those of a round come once")
            return
        shared, envelopes = self._delivered(delivery)
        check_shared(self.terms, self.number, shared)
        self._held = self._opened(envelopes)
        self._state.delivery, self._shared = delivery, shared

    def report(self, payload: Payload) -> bytes:
        """Stage 3, up: its numbers under all their masks.

        Args:
            payload: made for the round's manifest; see `payload_of`.

        Raises:
            SecureMessageError: it is too early, too late, or another payload was reported.
            SecureAggregationError: the payload does not fit the manifest.
        """
        if not self._state.delivery:
            raise SecureMessageError("a worker reports after it has got its neighbours' shares")
        digest = hashlib.sha256(payload.values.tobytes() + repr(payload.figures).encode()).digest()
        if self._state.payload and digest != self._state.payload:
            raise SecureMessageError(
                "this worker has reported something else in this round: under the same masks, both could be "
                "read"
            )
        if self._state.answer:
            raise SecureMessageError(
                "the round is over for this worker: it has answered, and forgotten its report"
            )
        if not self._state.payload:
            _check_payload(self.terms, payload)
            self._state.report = self._masked(payload)
            self._state.payload = digest
        return self._state.report

    def agree(self, lists: bytes) -> bytes:
        """Stage 4 where the grid may lie, up: its signature of the lists.

        Raises:
            SecureMessageError: the lists are refused, or it has agreed to others.
        """
        if not self.terms.signs or self._signer is None:
            raise SecureMessageError("workers agree on lists only where the grid may lie, and with a key")
        self._settle(lists)
        if not self._state.agreement:
            signature = keys.signed(self._signer, b"lists", self.terms.digest + lists)
            self._state.agreement = written(AgreementMessage(signature=signature))
        return self._state.agreement

    def answer(self, question: bytes) -> bytes:
        """Stage 4, up: for each whose shares it holds, the one that the lists ask for. Then it forgets them.

        Raises:
            SecureMessageError: the question is refused, or it has answered another one.
        """
        self._check_reported()
        data = checked_question(self.terms, self.number, question)
        lists = self._settle(data)
        if not self._state.answer:
            self._state.answer = answer_of(lists, self._held)
            self._forget()
        return self._state.answer

    def _joined(self, terms: Terms) -> None:
        if self._member not in terms.roster.members:
            raise SecureMessageError("the round's roster does not have this worker's keys")
        self._terms, self._number = terms, terms.roster.members.index(self._member)

    def _check_state(self) -> None:
        """Refuses a state that lacks a secret which is still needed, or a stage before a later one."""
        state = self._state
        sizes = {
            "mask_seed": (SHARE_BYTES, not state.answer),
            "share_key": (keys.KEY_BYTES, not state.answer),
            "self_seed": (SHARE_BYTES, bool(state.shares) and not state.answer),
            "own_shares": (SHARES_BYTES, bool(state.shares) and not state.answer),
        }
        wrong = [name for name, (size, kept) in sizes.items() if len(getattr(state, name)) != size * kept]
        stages = (state.announcement, state.shares, state.delivery, state.payload, state.lists, state.answer)
        if wrong or any(later and not earlier for earlier, later in itertools.pairwise(stages)):
            raise SecureMessageError(
                "the state of a worker in a secure round is damaged: "
                + (f"{wrong[0]} has another size" if wrong else "it has messages of a stage, and none before")
            )

    def _settle(self, data: bytes) -> Lists:
        """Takes the only lists that this worker ever says anything to."""
        self._check_reported()
        if self._state.lists and data != self._state.lists:
            raise SecureMessageError(
                "the grid asks a second time, with other lists: both answers together could give reports away"
            )
        lists = Lists.parse(data, self.terms.parameters.workers)
        lists.check(self.terms, self._shared)
        if self.number not in lists.reported:
            raise SecureMessageError("this worker has reported, and the grid says that it has not")
        self._state.lists = data
        return lists

    def _check_reported(self) -> None:
        if not self._state.payload:
            raise SecureMessageError("the grid asks for secrets, and this worker has not reported yet")

    def _draw_shares(self) -> None:
        terms, number = self.terms, self.number
        points = [holder + 1 for holder in terms.graph.holders(number)]
        seed = draw_below_prime(self._draw)
        mask_seed = int.from_bytes(self._state.mask_seed, "big")
        of_seed, of_mask_seed = (
            split(secret, terms.parameters.threshold, points, self._draw) for secret in (seed, mask_seed)
        )
        shares = {
            point - 1: one.to_bytes(SHARE_BYTES, "big") + other.to_bytes(SHARE_BYTES, "big")
            for point, one, other in zip(points, of_seed, of_mask_seed, strict=True)
        }
        self._state.own_shares = shares.pop(number)
        self._state.self_seed = seed.to_bytes(SHARE_BYTES, "big")
        envelopes = b""
        for other, share in shares.items():
            key = keys.envelope_key(self._common_with(other), terms.digest, number, other)
            envelopes += sealed(key, terms.digest, number, other, share)
        commitment = keys.commitment_of(self._state.self_seed, terms.digest, number)
        self._state.shares = written(SharesMessage(commitment=commitment, envelopes=envelopes))

    def _delivered(self, delivery: bytes) -> tuple[frozenset[int], dict[int, bytes]]:
        """Who has shared, and the envelope of each neighbour among them."""
        found = read(DeliveryMessage, delivery, "the delivery of shares")
        shared = members_of(found.shared, self.terms.parameters.workers, "those who have shared")
        senders = [other for other in self.terms.graph.neighbours(self.number) if other in shared]
        envelopes = pieces(found.envelopes, ENVELOPE_BYTES, len(senders), "the neighbours' shares")
        return shared, dict(zip(senders, envelopes, strict=True))

    def _opened(self, envelopes: dict[int, bytes]) -> dict[int, bytes]:
        """The two shares of each whose shares it holds, by their numbers."""
        number, digest = self.number, self.terms.digest
        held = {number: self._state.own_shares}
        for sender, envelope in envelopes.items():
            key = keys.envelope_key(self._common_with(sender), digest, sender, number)
            held[sender] = opened(key, digest, sender, number, envelope)
        return held

    def _common_with(self, other: int) -> bytes:
        """What the share keys of this worker and of a neighbour have in common; it is found out once."""
        if other not in self._common:
            private = X25519PrivateKey.from_private_bytes(self._state.share_key)
            self._common[other] = keys.exchanged(private, self.terms.share_keys[other])
        return self._common[other]

    def _masked(self, payload: Payload) -> bytes:
        terms, number = self.terms, self.number
        masked = payload.masked(terms.manifest)
        streams, private = MaskStreams(masked), keys.mask_pair(self._state.mask_seed)
        streams.add(keys.self_key(self._state.self_seed, terms.digest, number))
        for other in terms.graph.neighbours(number):
            if other in self._shared:
                key = keys.pair_key(private, terms.mask_keys[other], terms.digest, number, other)
                (streams.add if other > number else streams.subtract)(key)
        signature = b""
        if terms.signs and self._signer is not None:
            told = bitmap_of(self._shared, terms.parameters.workers)
            signature = keys.signed(self._signer, b"report", terms.digest + told)
        packed, figures = masked.ring.pack(masked.vector), masked.figures.tobytes()
        return written(ReportMessage(vector=packed, figures=figures, signature=signature))

    def _forget(self) -> None:
        """Lets go of the secrets: the answer is all that is still asked for."""
        state = self._state
        self._held, self._common = {}, {}
        state.mask_seed = state.share_key = state.self_seed = state.own_shares = state.report = b""


def _check_payload(terms: Terms, payload: Payload) -> None:
    manifest = terms.manifest
    most = most_of(manifest.value_bits)
    if len(payload.values) != manifest.values or len(payload.figures) != len(manifest.figures):
        raise SecureAggregationError("the payload has not as many numbers as the round's manifest says")
    if len(payload.values) and not -most <= payload.values.min() <= payload.values.max() <= most:
        raise SecureAggregationError(f"a value of the payload is not from −{most} to {most}")
