"""The end of a secure round: the secrets that shares give, and the sum that is left without the masks."""

from collections.abc import Collection, Iterator, Mapping

from fedplan.errors import SecureRoundError
from fedplan.federation.secure import keys
from fedplan.federation.secure.lists import Lists
from fedplan.federation.secure.payload import Payload, sum_of
from fedplan.federation.secure.shamir import SHARE_BYTES, recover
from fedplan.federation.secure.stages import check_answer, check_report, commitment_in
from fedplan.federation.secure.streams import Masked, MaskStreams
from fedplan.federation.secure.terms import Terms
from fedplan.text import counted


class MaskedSum:
    """Masked reports, added up as they come, in any order.

    Attributes:
        workers: whose reports are in it.
        total: the sum, under all masks.

    Args:
        terms: of the round.
        shared: who has shared.
    """

    def __init__(self, terms: Terms, shared: frozenset[int]) -> None:
        self._terms = terms
        self._shared = shared
        self.workers: set[int] = set()
        manifest = terms.manifest
        self.total = Masked.zeros(manifest.ring, manifest.values, len(manifest.figures))

    def add(self, worker: int, report: bytes) -> None:
        """Adds a worker's report, once.

        Raises:
            SecureMessageError: it does not fit.
        """
        if worker not in self.workers:
            self.total.add(check_report(self._terms, self._shared, None, worker, report))
            self.workers.add(worker)


def unmask(
    terms: Terms, lists: Lists, shares: Mapping[int, bytes], masked: MaskedSum, answers: Mapping[int, bytes]
) -> Payload:
    """The sum of what the workers that reported have added. The masked sum is used up.

    Args:
        terms: of the round.
        lists: who has reported and who is missing.
        shares: by the workers' numbers, what each sent at the stage of shares.
        masked: the sum of exactly the reports of those who reported.
        answers: by the workers' numbers, what each answered.

    Raises:
        SecureRoundError: too few answered, or what they gave is wrong.
        SecureMessageError: an answer does not fit, which should have been refused when it came.
    """
    if masked.workers != lists.reported:
        raise SecureRoundError("the masked sum is not that of the workers that have reported")
    secrets = _secrets(terms, lists, shares, answers)
    streams = MaskStreams(masked.total)
    for worker in sorted(lists.reported):
        streams.subtract(keys.self_key(secrets[worker], terms.digest, worker))
    for worker in sorted(lists.missing):
        private = keys.mask_pair(secrets[worker])
        for other in _in_sum(terms, lists, worker):
            key = keys.pair_key(private, terms.mask_keys[other], terms.digest, worker, other)
            (streams.subtract if worker > other else streams.add)(key)
    return sum_of(terms.manifest, masked.total, len(lists.reported))


def check_answered(terms: Terms, lists: Lists, answered: Collection[int]) -> None:
    """Sees whether enough workers have answered for every secret that the lists ask for.

    Args:
        terms: of the round.
        lists: who has reported and who is missing.
        answered: the numbers of those who have answered.

    Raises:
        SecureRoundError: of a secret fewer shares are there than are needed.
    """
    holders, threshold = set(answered), terms.parameters.threshold
    owners = (*lists.reported, *lists.missing)
    few = [owner for owner in owners if len(holders.intersection(terms.graph.holders(owner))) < threshold]
    if few:
        raise SecureRoundError(
            f"{counted(len(answered), 'worker')} answered, and of {counted(len(few), 'secret')} fewer than "
            f"{threshold} shares are there: the round ends without a sum"
        )


def _in_sum(terms: Terms, lists: Lists, worker: int) -> Iterator[int]:
    """The neighbours of a worker that is missing whose masks with it are in the sum."""
    return (other for other in terms.graph.neighbours(worker) if other in lists.reported)


def _secrets(
    terms: Terms, lists: Lists, shares: Mapping[int, bytes], answers: Mapping[int, bytes]
) -> dict[int, bytes]:
    """The seed of each that the lists ask for, once for all: none is missing, none is wrong."""
    held: dict[int, dict[int, int]] = {owner: {} for owner in (*lists.reported, *lists.missing)}
    for holder, message in answers.items():
        for owner, share in check_answer(terms, lists, holder, message).items():
            held[owner][holder + 1] = share
    check_answered(terms, lists, answers)
    return {owner: _recovered(terms, lists, shares, owner, held[owner]) for owner in held}


def _recovered(
    terms: Terms, lists: Lists, shares: Mapping[int, bytes], owner: int, held: Mapping[int, int]
) -> bytes:
    is_own = owner in lists.reported
    told = commitment_in(terms, owner, shares[owner]) if is_own else terms.roster[owner].mask_key

    def is_right(secret: int) -> bool:
        seed = secret.to_bytes(SHARE_BYTES, "big")
        if is_own:
            return keys.commitment_of(seed, terms.digest, owner) == told
        return keys.mask_pair(seed).public_key().public_bytes_raw() == told

    found = recover(held, terms.parameters.threshold, is_right)
    if found is None:
        raise SecureRoundError(
            f"the shares of worker {owner} do not give its secret: it shared something else, or several "
            "workers gave wrong shares. The round ends without a sum"
        )
    return found.to_bytes(SHARE_BYTES, "big")
