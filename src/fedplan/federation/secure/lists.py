"""Who has reported and who is missing: what workers are asked to unmask."""

import dataclasses
from collections.abc import Collection
from typing import Self

from fedplan.errors import SecureMessageError
from fedplan.federation.secure.bitmaps import bitmap_of, members_of
from fedplan.federation.secure.messages import ListsMessage, read, written
from fedplan.federation.secure.terms import Terms


@dataclasses.dataclass(frozen=True, slots=True)
class Lists:
    """The workers that have shared, in two sets.

    Attributes:
        reported: of these the sum is taken; their own masks are taken off.
        missing: those whose masks with the others are taken off.
    """

    reported: frozenset[int]
    missing: frozenset[int]

    @classmethod
    def parse(cls, data: bytes, workers: int) -> Self:
        """Reads what `serialize` wrote.

        Raises:
            SecureMessageError: it is something else.
        """
        found = read(ListsMessage, data, "the lists of who has reported")
        return cls(
            members_of(found.reported, workers, "those who have reported"),
            members_of(found.missing, workers, "those who are missing"),
        )

    def serialize(self, workers: int) -> bytes:
        """As they are sent."""
        return written(
            ListsMessage(reported=bitmap_of(self.reported, workers), missing=bitmap_of(self.missing, workers))
        )

    def check(self, terms: Terms, shared: Collection[int]) -> None:
        """Refuses lists with which more could be learnt than the sum over enough workers.

        Args:
            terms: of the round.
            shared: who has shared.

        Raises:
            SecureMessageError: they are such lists.
        """
        both = self.reported & self.missing
        if both:
            raise SecureMessageError(
                f"worker {min(both)} is in both lists: with both of its secrets its report could be read"
            )
        if self.reported | self.missing != set(shared):
            raise SecureMessageError("the lists are not those of the workers that have shared")
        if len(self.reported) < terms.parameters.fewest:
            raise SecureMessageError(
                f"{len(self.reported)} workers have reported, and the sum is taken over at least "
                f"{terms.parameters.fewest}"
            )
        if not terms.graph.are_connected(self.reported):
            raise SecureMessageError(
                "those who have reported are two groups without masks in common, so two sums could be read"
            )
