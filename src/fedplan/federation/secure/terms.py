"""What the workers of a secure round and its grid have in common, and what a worker expects of it."""

import dataclasses
import functools
from collections.abc import Mapping
from typing import Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.graph import NeighbourGraph
from fedplan.federation.secure.keys import public_key
from fedplan.federation.secure.manifest import Manifest
from fedplan.federation.secure.messages import AnnouncementMessage, read, written
from fedplan.federation.secure.parameters import Parameters, Trust
from fedplan.federation.secure.roster import Roster, RosterMember


@dataclasses.dataclass(frozen=True)
class Terms:
    """A manifest with the roster that it names.

    Attributes:
        manifest: of the round.
        roster: its workers.
        digest: the manifest's.
        graph: who is whose neighbour.
    """

    manifest: Manifest
    roster: Roster
    digest: bytes
    graph: NeighbourGraph

    @classmethod
    def of(cls, manifest: Manifest, roster: Roster) -> Self:
        """The terms of a round.

        Raises:
            SecureMessageError: the roster is not the one that the manifest names.
        """
        found, given = roster.digest, manifest.parameters
        if found != manifest.roster or len(roster) != given.workers:
            raise SecureMessageError("the roster is not the one that the manifest names")
        return cls(manifest, roster, manifest.digest, NeighbourGraph(given.workers, given.degree, found))

    @staticmethod
    @functools.lru_cache(maxsize=4)
    def parse(announcement: bytes) -> "Terms":
        """Reads what `serialize` wrote. In a simulation all workers of a round read the same bytes.

        Raises:
            SecureMessageError: it cannot be read, or what it holds does not fit together.
        """
        found = read(AnnouncementMessage, announcement, "the announcement of a secure round")
        return Terms.of(Manifest.parse(found.manifest), Roster.parse(found.roster))

    def serialize(self) -> bytes:
        """The announcement: the same bytes for every worker."""
        return written(
            AnnouncementMessage(manifest=self.manifest.serialize(), roster=self.roster.serialize())
        )

    @property
    def parameters(self) -> Parameters:
        """How many workers, neighbours and shares."""
        return self.manifest.parameters

    @property
    def signs(self) -> bool:
        """Whether workers sign what they say, since the grid may lie."""
        return self.parameters.trust is Trust.LYING

    @functools.cached_property
    def mask_keys(self) -> tuple[X25519PublicKey, ...]:
        """Those of all workers."""
        return tuple(public_key(member.mask_key) for member in self.roster)

    @functools.cached_property
    def share_keys(self) -> tuple[X25519PublicKey, ...]:
        """Those of all workers."""
        return tuple(public_key(member.share_key) for member in self.roster)


@dataclasses.dataclass(frozen=True, slots=True)
class Received:
    """Digests of what a worker has downloaded for the cycle.

    Attributes:
        model: of the decoded tensors; see `digest_of_tensors`.
        plans: of the Plans' bytes, by ``name/variant``.
        client_config: of its text.
    """

    model: bytes
    plans: Mapping[str, bytes]
    client_config: bytes


@dataclasses.dataclass(frozen=True, slots=True)
class Expectations:
    """What a worker asks of a round before it takes part.

    Attributes:
        trust: it takes part where the grid is trusted with no more than this.
        fewest: reports over which the sum is at least taken.
        corrupt: thousandths of the workers that may be corrupt without harm, at least.
        registered: identities of workers that it knows; needed where the grid may lie.
    """

    trust: Trust = Trust.HONEST
    fewest: int = 3
    corrupt: int = 100
    registered: frozenset[bytes] = frozenset()

    def check(self, terms: Terms, cycle: str, own: RosterMember, received: Received) -> None:
        """Refuses a round that is not what it should be.

        Args:
            terms: as the grid announced them.
            cycle: in which the worker was accepted.
            own: the worker's keys.
            received: what it downloaded.

        Raises:
            SecureMessageError: it is not; the message says why.
        """
        if terms.manifest.cycle != cycle:
            raise SecureMessageError("the manifest is of another cycle")
        if own not in terms.roster.members:
            raise SecureMessageError("the roster does not hold the keys that this worker has sent")
        self.check_parameters(terms.parameters)
        _check_received(terms.manifest, received)
        if terms.signs:
            self._check_identities(terms)

    def check_parameters(self, given: Parameters) -> None:
        """Refuses parameters that promise less than it asks for.

        Raises:
            SecureMessageError: they do; the message says what.
        """
        if not given.trust.covers(self.trust):
            raise SecureMessageError(
                f"this worker takes part only where the grid may be {self.trust}, and the round is for one "
                f"that is {given.trust}"
            )
        if given.fewest < self.fewest:
            raise SecureMessageError(
                f"the sum may be taken over {given.fewest} reports, and this worker asks for at least "
                f"{self.fewest}"
            )
        if given.corrupt < self.corrupt:
            raise SecureMessageError(
                f"the round is safe with {given.corrupt / 10:g} % of the workers corrupt, and this worker "
                f"asks for {self.corrupt / 10:g} %"
            )

    def _check_identities(self, terms: Terms) -> None:
        for number, member in enumerate(terms.roster):
            if member.identity not in self.registered:
                raise SecureMessageError(
                    f"worker {number} in the roster has no registered identity: the grid might play it itself"
                )
            member.check_identity(terms.manifest.cycle)


def _check_received(manifest: Manifest, received: Received) -> None:
    told = "the workers are told to have"
    if received.model != manifest.model:
        raise SecureMessageError(f"the model that was downloaded is not the one that {told}")
    if received.client_config != manifest.client_config:
        raise SecureMessageError(f"the client_config that was received is not the one that {told}")
    if not received.plans:
        raise SecureMessageError("no Plan was downloaded that could be held against the manifest")
    for name, digest in received.plans.items():
        if manifest.plans.get(name) != digest:
            raise SecureMessageError(f"the Plan '{name}' that was downloaded is not the one that {told}")
