"""How long clients take one after the other, and side by side: the first ones are computed for a moment.

What is computed here counts for nothing.
"""

import dataclasses
import itertools
import statistics
import time
from collections.abc import Iterator, Sequence

from fedplan.errors import PlanError
from fedplan.simulation.engines.batched.batched import Batched, Compute, one_by_one
from fedplan.simulation.engines.batched.course import length_of
from fedplan.simulation.engines.batched.lineup import Lineup, lineup_of
from fedplan.simulation.participation import Participants

_SECONDS = 0.02
"""So long each way is tried, or for one batch, when that takes longer."""


@dataclasses.dataclass(frozen=True, slots=True)
class Trial:
    """What was found out.

    Attributes:
        lineups: the clients that were drawn for it, the first ones.
        data: seconds to draw the batches of one client.
        alone: seconds to train one client by itself.
        together: seconds for one client side by side with the others; None when that cannot be done.
        reason: why not.
    """

    lineups: Sequence[Lineup]
    data: float
    alone: float
    together: float | None
    reason: str = ""


def tried(batched: Batched | str, participants: Participants, clients: Iterator[int]) -> Trial:
    """Draws the first clients that train, and tries them.

    Args:
        batched: computes them side by side; or the reason why that cannot be done.
        participants: of whom they are.
        clients: all of them; those that are drawn are taken from it.

    Raises:
        FedplanError: the data of one cannot be used, or the Plan fails on it; says which client.
    """
    if isinstance(batched, str):
        lineups = [lineup_of(participants, client) for client in itertools.islice(clients, 1)]
    else:
        lineups = batched.lineups(participants, clients)
    data = statistics.median(lineup.seconds for lineup in lineups)
    alone = _seconds(one_by_one, participants, lineups[:1])
    if isinstance(batched, str):
        return Trial(lineups, data, alone, None, batched)
    if len(lineups) == 1:
        return Trial(lineups, data, alone, None, "one client trains at a time")
    try:
        return Trial(lineups, data, alone, _seconds(batched.together, participants, lineups))
    except PlanError as error:
        return Trial(lineups, data, alone, None, str(error))


def _seconds(compute: Compute, participants: Participants, lineups: Sequence[Lineup]) -> float:
    """About how long the training of one of these clients takes."""
    courses = [lineup.training for lineup in lineups if lineup.training is not None]
    most = max(length_of(course.epochs[0]) for course in courses)

    def run(batches: int) -> float:
        """Seconds for one batch of one client, of so many."""
        begun = [course.begun(batches) for course in courses]
        started = time.perf_counter()
        compute(participants, participants.training, lineups, begun)
        return (time.perf_counter() - started) / sum(length_of(course.epochs[0]) for course in begun)

    run(1)  # compiles
    each = run(1)
    several = min(most, int(_SECONDS / (each * len(courses))))
    if several > 1:
        each = run(several)
    return each * sum(length_of(batches) for course in courses for batches in course.epochs) / len(courses)
