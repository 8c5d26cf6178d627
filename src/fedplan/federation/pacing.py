"""Pacing: when a rejected worker is to ask again, so that a herd of them does not come at once.

Nobody knows when a worker is wanted, but for a cycle that time alone ends. So those that wait are spread: a
few of them around the usual pause, many of them over as long as it takes at so many a second as the grid
wants. A worker's time is drawn, so it is fair who comes first.
"""

import dataclasses
import math

LONGEST_SECONDS = 600.0
"""A herd is spread over no longer time, however large it is: strangers who never ask again make it look
larger, and a free place must not wait long for somebody who does."""


@dataclasses.dataclass(frozen=True, slots=True)
class Pace:
    """By what it is decided when a rejected worker is to ask again.

    Attributes:
        retry: seconds after which one asks again, in the mean, when nothing better is known and few wait.
        per_second: so many of those that wait are to ask in a second, at most.
        herd: how many were told to ask again, and have not yet.
        draw: a random number in [0, 1).
    """

    retry: float
    per_second: float = math.inf
    herd: int = 0
    draw: float = 0.5

    @property
    def spread(self) -> float:
        """Seconds over which those that wait are spread."""
        return max(self.retry, self._turn)

    @property
    def at_once(self) -> float:
        """How many ask in the usual pause, at most."""
        return max(1.0, self.per_second * self.retry)

    def soon(self) -> int:
        """Whole seconds, at least one, to a time when the worker may be wanted."""
        return max(1, round(self.retry / 2 + self.draw * self.spread))

    def after(self, seconds: float) -> int:
        """Whole seconds to a time when the worker will be wanted, or a while later."""
        return max(1, math.ceil(seconds + self.draw * self.spread))

    def shortly(self) -> int:
        """Whole seconds to a time when a cycle that is closing should have closed: one, if few wait."""
        return max(1, math.ceil(self.draw * self._turn))

    @property
    def _turn(self) -> float:
        """Seconds until all that wait have asked."""
        return min(self.herd / self.per_second, LONGEST_SECONDS)
