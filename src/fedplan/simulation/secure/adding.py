"""The sum of a secure round: of whole numbers as they are, or by the whole protocol with all its masks."""

import dataclasses
from collections.abc import Collection, Mapping
from typing import Protocol

from fedplan.errors import AggregationError, SecureMessageError, SecureRoundError
from fedplan.federation import Strategy, Update, UpdateBlock
from fedplan.federation.secure import (
    Lists,
    Manifest,
    Masked,
    MaskedSum,
    Payload,
    SecureWorker,
    Terms,
    deliveries,
    question_of,
    unmask,
)
from fedplan.federation.secure.answers import check_shared
from fedplan.federation.secure.payload import sum_of
from fedplan.federation.secure.unmasking import check_answered
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.secure.reporting import WholeUpdate, check_whole


class Additions(Gathered):
    """What takes the reports of a secure round from an engine, one by one.

    Attributes:
        total: their sum; nothing where each is kept.
        kept: the reports by their clients, if each is needed by itself; else None.

    Args:
        strategy: the model's.
        manifest: of the round.
        keeps: whether each report is needed by itself.
    """

    def __init__(self, strategy: Strategy, manifest: Manifest, *, keeps: bool) -> None:
        super().__init__(strategy)
        self._manifest = manifest
        self.total = Masked.zeros(manifest.ring, manifest.values, len(manifest.figures))
        self.kept: dict[int, WholeUpdate] | None = {} if keeps else None

    def add(self, update: Update) -> None:
        """See `Gathered`."""
        whole = check_whole(update)
        if self.kept is None:
            self.total.add(whole.payload.masked(self._manifest))
        else:  # its array may be written over
            self.kept[whole.client] = dataclasses.replace(whole, values=whole.values.copy())

    def add_block(self, block: UpdateBlock) -> None:
        """See `Gathered`.

        Raises:
            AggregationError: always, for reports of a secure round come one by one.
        """
        raise AggregationError("a secure round takes reports one by one")


class Adding(Protocol):
    """How the reports of a round become a sum."""

    def share(self, shared: Collection[int]) -> None:
        """The stage of shares.

        Args:
            shared: the numbers of the workers that share their secrets.

        Raises:
            SecureRoundError: the round ends there.
        """

    def sum(self, lists: Lists, answered: Collection[int]) -> Payload:
        """The sum of the reports.

        Args:
            lists: who has reported.
            answered: the numbers of the workers that help to unmask it.

        Raises:
            SecureRoundError: too few do.
        """


class PlainAdding:
    """See `Adding`: adds the whole numbers up. The sum is the one that is left when all masks are off.

    Args:
        terms: of the round.
        gathered: the reports.
    """

    def __init__(self, terms: Terms, gathered: Additions) -> None:
        self._terms = terms
        self._gathered = gathered

    def share(self, shared: Collection[int]) -> None:
        """See `Adding`."""
        together = frozenset(shared)
        for number in sorted(together):
            try:
                check_shared(self._terms, number, together)
            except SecureMessageError as error:
                raise _left_alone(error) from None

    def sum(self, lists: Lists, answered: Collection[int]) -> Payload:
        """See `Adding`."""
        check_answered(self._terms, lists, answered)
        return sum_of(self._terms.manifest, self._gathered.total, len(lists.reported))


class MaskedAdding:
    """See `Adding`: runs the protocol, with every message of it.

    Args:
        terms: of the round.
        gathered: the reports, each by itself.
        workers: by their numbers; they have joined.
        clients: of which client each number is.
    """

    def __init__(
        self,
        terms: Terms,
        gathered: Additions,
        workers: Mapping[int, SecureWorker],
        clients: Mapping[int, int],
    ) -> None:
        self._terms = terms
        self._gathered = gathered
        self._workers = workers
        self._clients = clients
        self._shares: dict[int, bytes] = {}

    def share(self, shared: Collection[int]) -> None:
        """See `Adding`."""
        self._shares = {number: self._workers[number].share() for number in sorted(shared)}
        for number, delivery in deliveries(self._terms, self._shares).items():
            try:
                self._workers[number].receive(delivery)
            except SecureMessageError as error:
                raise _left_alone(error) from None

    def sum(self, lists: Lists, answered: Collection[int]) -> Payload:
        """See `Adding`."""
        masked = MaskedSum(self._terms, frozenset(self._shares))
        reports = self._gathered.kept or {}
        for number in sorted(lists.reported):
            payload = reports[self._clients[number]].payload
            masked.add(number, self._workers[number].report(payload))
        question = question_of(self._terms, lists)
        answers = {number: self._workers[number].answer(question) for number in sorted(answered)}
        return unmask(self._terms, lists, self._shares, masked, answers)


def _left_alone(error: SecureMessageError) -> SecureRoundError:
    """A worker of which too few neighbours are left.

    On a grid it would leave, and the round could go on. No more than one in 2^20 rounds comes to that.
    """
    return SecureRoundError(f"{error}: the round ends without a sum")
