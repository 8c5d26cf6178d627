"""Over-selection: a cycle takes more workers than it needs reports, as many more as are likely to drop out.

How many drop out is seen in the cycles before. Whoever has not reported when a cycle closes may have dropped
out, or only be slower than the reports that closed it. So a place counts only if it was held for three times
as long as reports took in the mean: then a worker that has not reported is taken for one that dropped out. A
cycle that closes before that tells nothing. Only the ten latest cycles count, so a share that was once large
is not believed for ever: where none of ten cycles tells anything, the next one takes no more than it needs.
"""

import dataclasses
import math
from collections.abc import Sequence

from fedplan.wire.config import ServerConfig

LATEST_CYCLES = 10
"""Of so many the drop-out counts."""

_PATIENCE = 3.0
"""Times the mean time of a report."""


@dataclasses.dataclass(frozen=True, slots=True)
class Held:
    """A place that a worker had in a cycle.

    Attributes:
        taken: when it took the place.
        reported: when its report came; None when none did.
    """

    taken: float
    reported: float | None


@dataclasses.dataclass(frozen=True, slots=True)
class DropOut:
    """How many of some places brought no report.

    Attributes:
        gone: those that brought none.
        judged: all that were held long enough to tell.
    """

    gone: int = 0
    judged: int = 0

    @property
    def share(self) -> float:
        """Of the workers that take a place, so many do not report: 0 where nothing is known."""
        return self.gone / self.judged if self.judged else 0.0


def drop_out(places: Sequence[Held], ended: float) -> DropOut:
    """What a cycle tells of the drop-out.

    Args:
        places: all that it gave for training.
        ended: when it stopped taking reports.
    """
    took = [place.reported - place.taken for place in places if place.reported is not None]
    if not took:
        return DropOut()
    patience = _PATIENCE * max(sum(took) / len(took), 0.0)
    old = [place for place in places if place.taken + patience <= ended]
    return DropOut(sum(place.reported is None for place in old), len(old))


def places_to_give(config: ServerConfig, seen: DropOut) -> int | None:
    """How many places a cycle of training has; None where the server_config does not say over_selection.

    Args:
        config: the model's.
        seen: the drop-out of its latest cycles.
    """
    if config.over_selection is None or config.max_diffs is None:
        return None
    factor = config.over_selection if seen.share >= 1 else min(1 / (1 - seen.share), config.over_selection)
    places = math.ceil(round(config.max_diffs * factor, 6))  # 10 × 1.1 is 11 places, not 12
    return places if config.max_workers is None else min(places, config.max_workers)
