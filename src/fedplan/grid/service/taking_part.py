"""Who takes part in a model's present cycle, and why those who left it did."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Literal

from fedplan.grid.grid import Grid
from fedplan.grid.service.status import moment
from fedplan.grid.service.why import LOOKED_AT, TELLING, standing
from fedplan.grid.store import events, participation, places
from fedplan.grid.store.places import Found

MOST_SHOWN = 200
"""Workers of a cycle that are listed."""


@dataclasses.dataclass(frozen=True, slots=True)
class Participant:
    """A worker of a cycle.

    Attributes:
        name: as events name it; see `worker_name`.
        state: how it stands.
        joined_at: when it got its place.
        reported_at: when its report came, if it did.
        only_measures: whether its place is for evaluation alone.
        cause: why it has no place any more, if it has none.
    """

    name: str
    state: Literal["training", "reported", "without a place"]
    joined_at: datetime
    reported_at: datetime | None
    only_measures: bool
    cause: str | None


async def participants(grid: Grid, name: str, version: str) -> Sequence[Participant]:
    """The workers of a model's latest cycle, those that joined last first; at most `MOST_SHOWN`.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(name, version)
    async with grid.store.reading(long=True) as db:
        cycle = await participation.latest_cycle(db, process.id)
        found = await places.of_cycle(db, cycle.id, MOST_SHOWN)
        recent = await events.recent_of(db, process.name, process.version, TELLING, LOOKED_AT)

    def read(worker: str, place: Found) -> Participant:
        state, cause = standing(worker, place, recent)
        return Participant(
            name=worker,
            state=state,
            joined_at=moment(grid.clock.wall_of(place.accepted_at)),
            reported_at=None if place.reported_at is None else moment(place.reported_at),
            only_measures=place.aside,
            cause=cause,
        )

    return [read(worker, place) for worker, place in found]
