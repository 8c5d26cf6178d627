"""The grid's time, by which it decides: no clock on a wall that is set forward or back moves it."""

import logging
import time
from collections.abc import Callable

from fedplan.grid.store import Store, times

logger = logging.getLogger(__name__)

JUMP_SECONDS = 5.0
"""By how much the database's clock may be off from what a replica expects before that is a jump. Clocks drift
and are corrected by less, and the grid's time follows."""


def monotonic() -> float:
    """Seconds from any moment on, which nobody sets; where the system knows it, with those that it slept."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class Clock:
    """The grid's time, the same for all replicas, in seconds since 1970.

    It is the database's time and a shift, which is 0 until that time jumps. A replica reads both when it
    starts and at each heartbeat (`check`), and goes on by its own monotonic clock in between. So it can tell
    when the database's clock was set. It then changes the shift by as much, for all replicas at once, and
    whatever was stored stays as far away as it was: a deadline, the time of a place, who waits.

    Args:
        store: the database.
        wall: the database's time, in its place.
        monotonic: seconds from any moment on, which nobody sets.
    """

    def __init__(
        self,
        store: Store,
        wall: Callable[[], float] | None = None,
        monotonic: Callable[[], float] = monotonic,
    ) -> None:
        self._store = store
        self._wall = wall
        self.monotonic = monotonic
        self._time, self._at = 0.0, 0.0  # the grid's time, and when it was that
        self._latest = 0.0
        self._shift, self._jumps = 0.0, 0

    def __call__(self) -> float:
        """The grid's time. It never goes back while the replica runs."""
        self._latest = max(self._latest, self._time + (self.monotonic() - self._at))
        return self._latest

    def wall(self) -> float:
        """The time on people's walls, as the database has it: for what they read, and for what expires.

        A token's expiry was written down by somebody else, by another clock. If the grid's was wrong and is
        set right, what has expired has expired.
        """
        return self.wall_of(self())

    def wall_of(self, time: float) -> float:
        """A moment of the grid's time as people's clocks show it."""
        return time - self._shift

    async def start(self) -> None:
        """Reads the time for the first time."""
        _, at, reading = await self._read()
        self._follow(reading, at)

    async def check(self) -> None:
        """Holds the time against the database's clock."""
        spent, at, reading = await self._read()
        if reading.jumps != self._jumps:  # another replica has noticed one, maybe from before this began
            self._follow(reading, at)
            return
        ahead = _grids(reading) - (self._time + (at - self._at))
        if abs(ahead) <= JUMP_SECONDS + spent / 2:
            latest = self()
            self._follow(reading, at)
            self._latest = latest
            return
        async with self._store.writing() as db:
            noted = await times.note_jump(db, ahead, self._jumps)
        if noted:
            self._shift, self._jumps = reading.shift - ahead, self._jumps + 1
            logger.warning(
                "the clock of the database was set %s by %.1f s; open cycles, places and waiting workers "
                "keep the time that they have left",
                "forward" if ahead > 0 else "back",
                abs(ahead),
            )

    async def _read(self) -> tuple[float, float, times.Reading]:
        """How long it took to read the time, when that was by the monotonic clock, and what was read."""
        before = self.monotonic()
        async with self._store.reading() as db:
            reading = await times.read(db)
        if self._wall is not None or reading.wall is None:
            wall = (self._wall or time.time)()
            reading = times.Reading(wall, reading.shift, reading.jumps)
        after = self.monotonic()
        return after - before, (before + after) / 2, reading

    def _follow(self, reading: times.Reading, at: float) -> None:
        self._time, self._at = _grids(reading), at
        self._latest = self._time
        self._shift, self._jumps = reading.shift, reading.jumps


def _grids(reading: times.Reading) -> float:
    return (reading.wall or 0.0) + reading.shift
