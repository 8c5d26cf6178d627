"""Patience: how long a worker goes on that is rejected, whose reports are refused, or whose grid is away."""

import itertools
import logging
import math
import random
from collections.abc import Iterator

from fedplan.client.counts import positive_seconds
from fedplan.client.transport.exchange import AWAY_SECONDS, passes
from fedplan.errors import CycleRejectedError, GridConnectionError, GridResponseError

_log = logging.getLogger("fedplan.client")

_REFUSALS = 2
"""So many reports in succession may be refused. One or two may have come too late; more mean a wrong diff."""

_CLOSING_SECONDS = 60.0
"""For how long after the time that the grid names a worker asks for its next cycle that was not told to wait:
the cycle before is being averaged."""

_SHORTEST_WAIT = 0.5
"""Seconds between two requests, even if the grid names less."""

_GROWING_SECONDS = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
"""Seconds between two requests, the last for all further ones, to a grid that names the end of its cycle and
not when to ask: a PyGrid node, whose cycle ends with its last report, be that hours before."""


class Patience:
    """How long a worker goes on."""

    def __init__(self, wait: bool | float) -> None:
        self._left = self._first_left = _seconds_of(wait)
        self._between = False  # whether it has reported, and asks for its next cycle
        self._forgiven = self._most_forgiven = _REFUSALS if wait else 0
        self._away: Iterator[float] = iter(())
        self._growing = _growing()
        self._doubts = False  # that the next rejection for good is one

    def forgives(self) -> bool:
        """Whether the worker goes on after one more refused report."""
        self._forgiven -= 1
        return self._forgiven >= 0

    def renew(self) -> None:
        """A report was taken: earlier refusals are forgotten, and the next cycle is waited for."""
        self._forgiven = self._most_forgiven
        self._between = self._first_left == 0

    def joined(self, *, numbered: bool) -> None:
        """The worker is in a cycle: what was left of the wait for it is over.

        Args:
            numbered: whether the grid tells the cycle's number. A PyGrid node does not. Between two cycles it
                has none for a moment, and rejects who asks then as if the model were finished.
        """
        self._growing, self._doubts = _growing(), not numbered
        if self._first_left == 0:
            self._between, self._left = False, 0.0

    def answered(self) -> None:
        """The grid is there: if it goes away, it is waited for. One that never was may have another URL."""
        self._away = iter(AWAY_SECONDS)

    def outlast(self, error: GridConnectionError | GridResponseError) -> float | None:
        """Seconds until the next request to a grid that is away; None when there is to be none."""
        seconds = self._take(next(self._away, None)) if passes(error) else None
        if seconds is not None:
            _log.warning("%s: asking again in %.0f s", error, seconds)
        return seconds

    def wait(self, rejected: CycleRejectedError) -> float | None:
        """Seconds until the next request after a rejection; None when there is to be none."""
        seconds = None if rejected.timeout is None else max(_SHORTEST_WAIT, rejected.timeout)
        if seconds is None and self._doubts:
            self._doubts, seconds = False, _GROWING_SECONDS[0]
        if self._between and seconds is not None:
            self._between, self._left = False, seconds + _CLOSING_SECONDS
        if rejected.at_latest:
            grown = next(self._growing)
            seconds = min(grown, seconds) if seconds and rejected.timeout else grown  # its time may be over
        return self._take(seconds)

    def _take(self, seconds: float | None) -> float | None:
        """What the patience has left of a wait."""
        if seconds is None or self._left <= 0:
            return None
        # a tenth at random, so that those who were turned away together do not come back together
        seconds = min(seconds * random.uniform(1.0, 1.1), self._left)  # nosec B311  # no secret
        self._left -= seconds
        return seconds


def _seconds_of(wait: bool | float) -> float:
    """For how long a worker waits in all.

    Raises:
        ConfigError: `wait` is neither True, False nor a number of seconds.
    """
    if wait is True:
        return math.inf
    return 0.0 if wait is False or wait == 0 else positive_seconds(wait, "wait")


def _growing() -> Iterator[float]:
    """Waits that grow up to a bound, each up to half as long again at random."""
    for seconds in itertools.chain(_GROWING_SECONDS, itertools.repeat(_GROWING_SECONDS[-1])):
        yield seconds * random.uniform(1.0, 1.5)  # nosec B311  # no secret
