"""The sums of open cycles' updates, formed while the reports come: closing a cycle has little left to do.

A sum is a head start, never what is believed. It may be lost at any time, by a kill or for want of room, and
what is missing in it is read from the blobs: in the background after a start, and for reports of replicas
that are gone; at the latest when the cycle closes. A report is added while its row is being committed, so one
whose commit fails makes the sum useless: it knows what it holds by the blobs, which are never written again.
"""

import asyncio
import contextlib
import dataclasses
import logging
import math
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator

from fedplan.errors import AggregationError, DamagedBlobError, WireError
from fedplan.federation import BYTES_PER_ELEMENT, Layout, Strategy, Sums, Update
from fedplan.federation.stored import read_stored
from fedplan.federation.sums import framed, unframed
from fedplan.grid.blobs import Blobs
from fedplan.grid.records import Report

logger = logging.getLogger(__name__)

_QUEUED_BYTES = 32 * 1024 * 1024
"""Bytes of diffs of one cycle that wait in memory to be added; the others are read again from their blobs."""

_QUICK_BYTES = 4 * 1024 * 1024
"""A diff so small is added at once, in less time than a thread would take to get Python's lock for it."""


@dataclasses.dataclass(slots=True)
class Tally:
    """The sum of some of a cycle's updates.

    Attributes:
        sums: the sum.
        counted: keys of the blobs whose updates are in it.
    """

    sums: Sums
    counted: set[str] = dataclasses.field(default_factory=set)

    def add(self, strategy: Strategy, blob: str, update: Update) -> None:
        """Adds an update."""
        strategy.add(self.sums, update)
        self.counted.add(blob)

    def serialize(self) -> bytes:
        """The tally as bytes, for another replica to merge."""
        return b"".join([framed({"counted": sorted(self.counted)}), self.sums.serialize()])

    def merge_bytes(self, data: bytes, wanted: Collection[str]) -> None:
        """Adds what another replica has written with `serialize`.

        Args:
            data: the bytes.
            wanted: keys of the blobs that may be in it.

        Raises:
            AggregationError: it holds others, some that are in this one already, or the sum of another model;
                then nothing is added.
        """
        head, sums = unframed(data)
        theirs = set(head["counted"])
        if not theirs <= set(wanted):
            raise AggregationError("it holds reports that the cycle does not have")
        if theirs & self.counted:
            raise AggregationError("it holds reports that are counted already")
        self.sums.merge_bytes(sums)
        self.counted |= theirs


class Tallies:
    """The sums of the open cycles whose strategies add updates up as they come.

    Args:
        blobs: where the diffs are.
        room: most bytes of sums in all.
    """

    def __init__(self, blobs: Blobs, room: int) -> None:
        self._blobs = blobs
        self._room = room
        self._sums: dict[int, _Sum] = {}
        self._taken: dict[int, tuple[Strategy, Tally, int]] = {}  # with the bytes that were counted

    def add(self, cycle_id: int, strategy: Strategy, report: Report, update: Update | None = None) -> None:
        """Adds a report, a large one in the background; nothing happens when it is known already.

        Args:
            cycle_id: its cycle.
            strategy: the model's.
            report: where it is.
            update: the report itself, when it is at hand.
        """
        found = self._sums.get(cycle_id) or self._begin(cycle_id, strategy, Tally(strategy.nothing()))
        if found is not None:
            found.add(report, update)

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

    async def take(self, cycle_id: int, strategy: Strategy, wanted: Collection[str] | None = None) -> Tally:
        """The sum of a cycle that closes, once all that was given to `add` is in it.

        Its bytes count, also beyond what there is room for, until `returned` ends.

        Args:
            cycle_id: the cycle.
            strategy: the model's.
            wanted: keys of all blobs that may be in it. A sum with others is thrown away. None for any.

        Returns:
            The sum; a new one if there is none.
        """
        found = self._sums.pop(cycle_id, None)
        if found is None:
            tally, size = None, _bytes_of(strategy.setting.changing_layout)
            self._room -= size
        else:
            tally = await found.result()
            size = found.size
        if tally is None or (wanted is not None and not tally.counted <= set(wanted)):
            tally = Tally(strategy.nothing())
        self._taken[cycle_id] = strategy, tally, size
        return tally

    @contextlib.contextmanager
    def returned(self, cycle_id: int) -> Iterator[None]:
        """A block that may take a cycle's sum. If the block raises, the sum is kept for the next try.

        That of which the average was made has no memory of its own any more, and is not kept.
        """
        ended = False
        try:
            yield
            ended = True
        finally:
            taken = self._taken.pop(cycle_id, None)
            if taken is not None:
                strategy, tally, size = taken
                self._room += size
                if not ended and not tally.sums.spent and cycle_id not in self._sums:
                    self._begin(cycle_id, strategy, tally)

    def unpublished(self, cycle_id: int) -> int:
        """How many reports are new in a cycle's sum since its last snapshot, with those about to be added."""
        found = self._sums.get(cycle_id)
        return 0 if found is None else len(found.known) - found.published

    async def snapshot(self, cycle_id: int) -> bytes | None:
        """A cycle's sum as it is now, serialized; None when there is none."""
        found = self._sums.get(cycle_id)
        return None if found is None else await found.snapshot()

    @contextlib.contextmanager
    def lent(self, like: int | Layout) -> Iterator[bool]:
        """Room for the bytes of one more sum, while the block runs; False when there is none.

        Args:
            like: of what layout the sum is, or the id of a cycle that has one like it.
        """
        if isinstance(like, int):
            found = self._sums.get(like)
            size = 0 if found is None else found.size
        else:
            size = _bytes_of(like)
        room = size <= self._room
        self._room -= size if room else 0
        try:
            yield room
        finally:
            self._room += size if room else 0

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

    def _begin(self, cycle_id: int, strategy: Strategy, tally: Tally) -> "_Sum | None":
        """Keeps the sum of a cycle, if there is room for it."""
        size = _bytes_of(strategy.setting.changing_layout) * max(tally.sums.parts, 1)
        if not self._claim(size):
            return None
        made = self._sums[cycle_id] = _Sum(strategy, self._blobs, tally, size, self._claim)
        return made

    def _claim(self, size: int) -> bool:
        """Counts some bytes, if there is room for them."""
        if size > self._room:
            return False
        self._room -= size
        return True

    def _forget(self, cycle_id: int) -> "_Sum | None":
        found = self._sums.pop(cycle_id, None)
        if found is not None:
            self._room += found.size
        return found


class _Sum:
    """One cycle's sum, and the task that adds to it what waits.

    Attributes:
        size: how many bytes are counted for it.
        known: keys of the blobs whose updates are in it, or wait.
        published: how many of them are in the last snapshot.

    Args:
        strategy: the model's.
        blobs: where the diffs are.
        tally: the sum.
        size: bytes that are counted for it.
        claim: counts more, if there is room for them.
    """

    def __init__(
        self, strategy: Strategy, blobs: Blobs, tally: Tally, size: int, claim: Callable[[int], bool]
    ) -> None:
        self.size = size
        self._layout = strategy.setting.changing_layout
        self._claim = claim
        self._tally: Tally | None = tally
        self.known = set(tally.counted)
        self.published = len(self.known)
        self._strategy = strategy
        self._blobs = blobs
        self._waiting: deque[tuple[Report, Update | None]] = deque()
        self._asked: asyncio.Future[bytes | None] | None = None
        self._held = 0
        self._task: asyncio.Task[None] | None = None
        self._released = asyncio.Condition()

    def add(self, report: Report, update: Update | None) -> None:
        if self._tally is None or report.blob in self.known:
            return
        self.known.add(report.blob)
        size = _size(update)
        if update is not None and size <= _QUICK_BYTES and self._is_idle():
            if self._fits(self._tally, update):
                self._tally.add(self._strategy, report.blob, update)
            else:
                self.stop()
            return
        if self._held and self._held + size > _QUEUED_BYTES:
            update, size = None, 0
        self._held += size
        if update is None:
            self._waiting.append((report, None))
        else:
            self._waiting.appendleft((report, update))  # whoever sent it waits for it
        self._start()

    async def snapshot(self) -> bytes | None:
        """Its bytes, written between two reports that are added; None when it was given up."""
        if self._tally is None:
            return None
        if self._asked is None:
            self._asked = asyncio.get_running_loop().create_future()
            self._start()
        return await self._asked

    async def settle(self) -> None:
        async with self._released:
            await self._released.wait_for(lambda: self._held <= _QUEUED_BYTES)

    async def result(self) -> Tally | None:
        if self._task is not None:
            await asyncio.wait([self._task])
        return self._tally

    def stop(self) -> None:
        self._waiting.clear()
        self._held = 0
        self._tally = None
        self.published = len(self.known)
        self._answer(None)

    def _fits(self, tally: Tally, update: Update) -> bool:
        """Whether there is room for the sum with an update in it; it takes twice as much when some tell."""
        more = _bytes_of(self._layout) * tally.sums.parts_with(update.summary) - self.size
        if more <= 0:
            return True
        if not self._claim(more):
            return False
        self.size += more
        return True

    def _is_idle(self) -> bool:
        return self._task is None or self._task.done()

    def _start(self) -> None:
        if self._is_idle():
            self._task = asyncio.create_task(self._work())

    def _answer(self, data: bytes | None) -> None:
        """Gives the snapshot to who asked for it."""
        asked, self._asked = self._asked, None
        if asked is not None and not asked.done():
            asked.set_result(data)

    async def _work(self) -> None:
        try:
            while (self._waiting or self._asked) and self._tally is not None:
                if self._asked is not None:
                    self.published = len(self._tally.counted)
                    self._answer(await asyncio.to_thread(self._tally.serialize))
                    continue
                report, update = self._waiting.popleft()
                size = _size(update)
                if update is None:
                    try:
                        data = await self._blobs.get(report.blob)
                        update = await asyncio.to_thread(read_stored, data, self._layout, report.staleness)
                    except (DamagedBlobError, WireError) as error:
                        logger.warning("the report %s is in no sum: %s", report.blob, error)
                        continue  # closing the cycle leaves it out
                if self._tally is None or not self._fits(self._tally, update):
                    self.stop()  # it was forgotten meanwhile, or there is no room
                    await self._release(0)
                    return
                await asyncio.to_thread(self._tally.add, self._strategy, report.blob, update)
                await self._release(size)
        except Exception:  # closing the cycle reads everything again, and says what is wrong
            logger.warning("a sum of diffs is given up", exc_info=True)
            self.stop()
            await self._release(0)

    async def _release(self, size: int) -> None:
        """So much less is held; whoever waits for that hears of it."""
        async with self._released:
            self._held -= size
            self._released.notify_all()


def _size(update: Update | None) -> int:
    """Bytes that an update takes while it waits."""
    return 0 if update is None else sum(tensor.nbytes for tensor in update.tensors)


def _bytes_of(layout: Layout) -> int:
    return sum(BYTES_PER_ELEMENT * math.prod(shape) for shape, _ in layout)
