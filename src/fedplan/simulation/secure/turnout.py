"""Which clients of a secure round are there at each of its stages."""

import dataclasses
from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

from fedplan.federation import KEYS, REPORTS, SHARES, UNMASKING
from fedplan.simulation.availability import Availability
from fedplan.simulation.chance import Chance, Purpose

STAGES = (KEYS, SHARES, REPORTS, UNMASKING)
"""At each of them a worker sends something, and may be gone before it does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Turnout:
    """The clients that were gathered for a round.

    Attributes:
        clients: in the order in which they got their places.
        missing_from: of those that leave the round, the place in `STAGES` of the first stage that they miss.
        late: those of them that would have been there, but train for longer than there is time.
        seconds: how long each one trains.
    """

    clients: Sequence[int]
    missing_from: dict[int, int]
    late: frozenset[int]
    seconds: dict[int, float]

    @property
    def gone(self) -> int:
        """How many leave without a word."""
        return len(self.missing_from) - len(self.late)

    def at(self, stage: str, among: Iterable[int]) -> list[int]:
        """Those of some clients that send something at a stage."""
        place = STAGES.index(stage)
        return [client for client in among if self.missing_from.get(client, len(STAGES)) > place]

    def training_seconds(self, clients: Collection[int]) -> float:
        """How long it takes until all of these have trained."""
        return max((self.seconds[client] for client in clients), default=0.0)


class Place(Protocol):
    """A client's place in a round."""

    number: int
    client: int
    reports_at: float | None


def turnout_of(
    places: Iterable[Place], cycle: int, training_length: float, chance: Chance, availability: Availability
) -> Turnout:
    """Who is there at each stage. A client that never reports is gone from a stage that is drawn, each alike.

    Args:
        places: of the clients.
        cycle: number of the cycle.
        training_length: seconds in which they train.
        chance: draws it.
        availability: how long clients take, and which never report.
    """
    held = sorted(places, key=lambda place: place.number)
    missing_from, late, seconds = {}, set(), {}
    for place in held:
        client = place.client
        seconds[client] = availability.takes(chance, client, cycle)
        if place.reports_at is None:
            missing_from[client] = chance.number(Purpose.STAGE, client=client, cycle=cycle) % len(STAGES)
        elif seconds[client] > training_length:
            missing_from[client] = STAGES.index(SHARES)
            late.add(client)
    return Turnout([place.client for place in held], missing_from, frozenset(late), seconds)
