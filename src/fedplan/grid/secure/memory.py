"""What a grid remembers of secure rounds."""

import asyncio
import dataclasses
from collections.abc import Mapping

from fedplan.errors import SecureAggregationError
from fedplan.federation.secure import Lists, Terms

MOST_BYTES = 1 << 30
"""Of what is remembered of all rounds."""


@dataclasses.dataclass(slots=True)
class Settled:
    """A secure round whose workers are settled.

    Attributes:
        terms: manifest and roster.
        numbers: the workers' numbers, by their places.
        shared: by the workers' numbers, what they sent to share their secrets; None before that has ended.
        deliveries: what each of them gets of the others then.
        making: held while these two are made: all workers ask at the same time.
    """

    terms: Terms
    numbers: Mapping[int, int]
    shared: Mapping[int, bytes] | None = None
    deliveries: Mapping[int, bytes] = dataclasses.field(default_factory=dict)
    making: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)

    def number(self, place_id: int) -> int:
        """The number of a worker.

        Raises:
            SecureAggregationError: it is not in the round.
        """
        if place_id not in self.numbers:
            raise SecureAggregationError("the worker is not in the round")
        return self.numbers[place_id]

    def lists(self, data: bytes) -> Lists:
        """The lists of the round, from their bytes."""
        return Lists.parse(data, self.terms.parameters.workers)
