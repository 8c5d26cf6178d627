"""The sums of open cycles' diffs, formed while the reports come: closing a cycle has little left to do.

A sum holds only what the store holds too: a report is added once its row is committed. So it may be lost
at any time, by a kill or for want of room, and what is missing in it is read from the blobs: in the
background after a start, and for reports that other replicas took; at the latest when the cycle closes.
"""

import asyncio
import dataclasses
import logging
import math
from collections import deque
from collections.abc import Iterable

from fedplan.aggregate import Accumulated, Layout, Tensors, mean
from fedplan.grid.blobs import Blobs
from fedplan.grid.records import Report
from fedplan.wire import State
from fedplan.wire.compression import FORMATS, decompress

logger = logging.getLogger(__name__)

_QUEUED_BYTES = 32 * 1024 * 1024
"""Bytes of diffs of one cycle that wait in memory to be added; the others are read again from their blobs."""

_QUICK_BYTES = 4 * 1024 * 1024
"""A diff so small is added at once, in less time than a thread would take to get Python's lock for it."""

_SUM_BYTES = 8  # of an element


@dataclasses.dataclass(slots=True)
class Tally:
    """The sum of some of a cycle's diffs.

    Attributes:
        state: the sum, as the rule `mean` has it.
        counted: ids of the assignments whose diffs are in it.
    """

    state: Accumulated
    counted: set[int]


class Tallies:
    """The sums of the open cycles whose diffs are averaged by their mean.

    Args:
        blobs: where the diffs are.
        room: most bytes of sums in all.
    """

    def __init__(self, blobs: Blobs, room: int) -> None:
        self._blobs = blobs
        self._room = room
        self._sums: dict[int, _Sum] = {}

    def add(self, cycle_id: int, layout: Layout, report: Report, diff: Tensors | None = None) -> None:
        """Adds a report that the store holds, in the background; nothing happens when it is known already.

        Args:
            cycle_id: its cycle.
            layout: the model's.
            report: the report.
            diff: its tensors, when they are at hand.
        """
        found = self._sums.get(cycle_id)
        if found is None:
            if not self.has_room(layout):
                return
            self._room -= _bytes_of(layout)
            found = self._sums[cycle_id] = _Sum(layout, self._blobs)
        found.add(report, diff)

    async def settle(self, cycle_id: int) -> None:
        """Waits while more of a cycle's diffs are in memory, to be added, than should be."""
        found = self._sums.get(cycle_id)
        if found is not None:
            await found.settle()

    def has_room(self, layout: Layout) -> bool:
        """Whether there is room for one more sum."""
        return _bytes_of(layout) <= self._room

    def lacks(self, cycle_id: int, layout: Layout, reported: int) -> bool:
        """Whether a cycle with so many reports has some that its sum lacks, or no sum where one has room."""
        found = self._sums.get(cycle_id)
        return self.has_room(layout) if found is None else len(found.known) < reported

    async def take(self, cycle_id: int) -> Tally | None:
        """The sum of a cycle, once all that was given to `add` is in it; it is forgotten here."""
        found = self._forget(cycle_id)
        return None if found is None else await found.result()

    def cycles(self) -> list[int]:
        """The ids of the cycles that have a sum."""
        return list(self._sums)

    def forget(self, cycle_ids: Iterable[int]) -> None:
        """Forgets the sums of cycles: another replica has closed them."""
        for cycle_id in cycle_ids:
            found = self._forget(cycle_id)
            if found is not None:
                found.stop()

    async def aclose(self) -> None:
        """Forgets everything."""
        left = list(self._sums.values())
        self.forget(self.cycles())
        await asyncio.gather(*(found.result() for found in left), return_exceptions=True)

    def _forget(self, cycle_id: int) -> "_Sum | None":
        found = self._sums.pop(cycle_id, None)
        if found is not None:
            self._room += _bytes_of(found.layout)
        return found


class _Sum:
    """One cycle's sum, and the task that adds to it what waits."""

    def __init__(self, layout: Layout, blobs: Blobs) -> None:
        self.layout = layout
        self.known: set[int] = set()
        self._blobs = blobs
        self._tally: Tally | None = Tally(mean().start(layout), set())
        self._waiting: deque[tuple[Report, Tensors | None]] = deque()
        self._held = 0
        self._task: asyncio.Task[None] | None = None

    def add(self, report: Report, diff: Tensors | None) -> None:
        if report.assignment_id in self.known:
            return
        self.known.add(report.assignment_id)
        size = _held(diff)
        idle = self._task is None or self._task.done()
        if diff is not None and size <= _QUICK_BYTES and idle and self._tally is not None:
            _add(self._tally, report.assignment_id, diff)
            return
        if self._held and self._held + size > _QUEUED_BYTES:
            diff, size = None, 0
        self._held += size
        self._waiting.append((report, diff))
        if idle:
            self._task = asyncio.create_task(self._work())

    async def settle(self) -> None:
        if self._held > _QUEUED_BYTES and self._task is not None:
            await asyncio.wait([self._task])

    async def result(self) -> Tally | None:
        if self._task is not None:
            await asyncio.wait([self._task])
        return self._tally

    def stop(self) -> None:
        self._waiting.clear()
        self._held = 0
        self._tally = None

    async def _work(self) -> None:
        try:
            while self._waiting and self._tally is not None:
                report, diff = self._waiting.popleft()
                held = _held(diff)
                if diff is None:
                    diff = read_stored(await self._blobs.get(report.blob), self.layout)
                await asyncio.to_thread(_add, self._tally, report.assignment_id, diff)
                self._held -= held
        except Exception:  # closing the cycle reads everything again, and says what is wrong
            logger.warning("a sum of diffs is given up", exc_info=True)
            self.stop()


def read_stored(diff: bytes, layout: Layout) -> Tensors:
    """The tensors of a diff that was checked when it came; smaller forms as float32."""
    return decompress(State.parse(diff), [shape for shape, _ in layout], FORMATS)


def _add(tally: Tally, assignment_id: int, diff: Tensors) -> None:
    tally.state = mean().add(tally.state, diff)
    tally.counted.add(assignment_id)


def _held(diff: Tensors | None) -> int:
    """Bytes that a diff takes while it waits."""
    return 0 if diff is None else sum(tensor.nbytes for tensor in diff)


def _bytes_of(layout: Layout) -> int:
    return sum(_SUM_BYTES * math.prod(shape) for shape, _ in layout)
