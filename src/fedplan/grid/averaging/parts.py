"""The parts of a cycle's sum: each replica publishes its own, and the one that closes the cycle merges them.

A part is a blob that says which reports are in it. It is a head start, never what is believed: it is taken
only if its reports are all of the cycle, and none of them is counted already; what is in no part is read from
the diffs. So one that is missing, damaged or old costs time, and nothing else. A replica that shares the
store with no other publishes nothing.

To write a part, and to read and merge it, takes as long as to read and add a few diffs (`scripts/bench
closing`). So a part is written after many new reports. Near the end of a cycle it is written once more, as
soon as no more reports are still to come than are new; the replica that closes the cycle then reads only the
few that came after that from their diffs.
"""

import asyncio
import dataclasses
import itertools
import logging
import re
from collections.abc import Collection, Iterable

from fedplan.errors import AggregationError, DamagedBlobError
from fedplan.federation import Layout
from fedplan.grid.averaging.tally import Tallies, Tally
from fedplan.grid.blobs import Blobs

logger = logging.getLogger(__name__)

MOST_NEW = 64
"""A part is written after so many new reports. It takes as many bytes as six diffs of float32."""

LEAST_NEW = 8
"""For fewer new reports no part is written or looked for: reading their diffs takes no longer."""

_NAME = re.compile(
    r".*/(?P<cycle>\d+)-(?P<replica>[0-9a-f]+)-(?P<number>\d+)\.[0-9a-f]+(?P<unfinished>\.new)?"
)


@dataclasses.dataclass(frozen=True, slots=True)
class _Part:
    """A part as its key tells it; of one replica's parts of a cycle the one of the greatest number counts."""

    key: str
    cycle_id: int
    replica: str
    number: int
    is_whole: bool = True


class Parts:
    """The parts that this replica publishes, and those that it merges.

    Args:
        blobs: where they are.
        tallies: this replica's sums.
        kind: the first part of their keys; grids may share a blob store, and theirs differ.
        replica: the name of this one, in hexadecimal digits.
    """

    def __init__(self, blobs: Blobs, tallies: Tallies, kind: str, replica: str) -> None:
        self._blobs = blobs
        self._tallies = tallies
        self._kind = kind
        self._replica = replica
        self._numbers = itertools.count(1)
        self._published: dict[int, str] = {}
        self._at_work: dict[int, asyncio.Task[None]] = {}

    def offer(self, cycle_id: int, still_to_come: int | None) -> None:
        """Publishes the part of a cycle in the background, if enough reports are new.

        Args:
            cycle_id: the cycle.
            still_to_come: how many reports it waits for; 0 when it is about to close without any more, None
                when that is not known.
        """
        least = MOST_NEW if still_to_come is None else min(max(still_to_come, LEAST_NEW), MOST_NEW)
        if self._tallies.unpublished(cycle_id) >= least and cycle_id not in self._at_work:
            task = self._at_work[cycle_id] = asyncio.create_task(self._publish(cycle_id))
            task.add_done_callback(lambda _: self._at_work.pop(cycle_id))

    async def merge(self, cycle_id: int, layout: Layout, tally: Tally, wanted: Collection[str]) -> None:
        """Adds to a cycle's tally what other replicas have published of it.

        Args:
            cycle_id: the cycle.
            layout: of what is added up.
            tally: what is counted already.
            wanted: keys of all diffs of the cycle.
        """
        if len(wanted) - len(tally.counted) < LEAST_NEW:
            return
        merged = {self._replica} if tally.counted else set[str]()
        for part in sorted(await self._of({cycle_id}), key=lambda part: -part.number):
            with self._tallies.lent(layout) as room:
                if room and part.is_whole and part.replica not in merged:
                    try:
                        data = await self._blobs.get(part.key)
                        await asyncio.to_thread(tally.merge_bytes, data, wanted)
                        merged.add(part.replica)
                    except (AggregationError, DamagedBlobError, FileNotFoundError) as error:
                        logger.warning("the part %s of a sum is not used: %s", part.key, error)

    async def forget(self, cycle_ids: Iterable[int]) -> None:
        """Deletes all parts of cycles that have ended, whoever published them."""
        ended = set(cycle_ids)
        for cycle_id in ended:
            self._published.pop(cycle_id, None)
        await self._blobs.delete(*(part.key for part in await self._of(ended)))

    async def cycles(self) -> set[int]:
        """The ids of the cycles of which there are parts."""
        return {part.cycle_id for part in await self._of(None)}

    async def forget_own(self, cycle_ids: Iterable[int]) -> None:
        """Deletes this replica's parts of cycles that another one has closed."""
        own = [self._published.pop(cycle_id, None) for cycle_id in cycle_ids]
        await self._blobs.delete(*filter(None, own))

    async def aclose(self) -> None:
        """Ends once what was begun is written."""
        await asyncio.gather(*self._at_work.values(), return_exceptions=True)

    async def _publish(self, cycle_id: int) -> None:
        try:
            with self._tallies.lent(cycle_id) as room:
                data = await self._tallies.snapshot(cycle_id) if room else None
                if data is None:
                    return
                name = f"{cycle_id}-{self._replica}-{next(self._numbers)}"
                key = await self._blobs.put(self._kind, data, name)
            older = key
            if cycle_id in self._tallies.cycles():  # else the cycle is being closed, or was
                older = self._published.get(cycle_id, "")
                self._published[cycle_id] = key
            await self._blobs.delete(*filter(None, [older]))
        except Exception as error:  # noqa: BLE001  # the diffs are there
            logger.warning("a part of a sum is not published: %s", error)

    async def _of(self, cycle_ids: Collection[int] | None) -> list[_Part]:
        """The parts that there are, of some cycles or of all."""
        found = [_NAME.fullmatch(key) for key in await self._blobs.names(self._kind)]
        return [
            _Part(name[0], int(name["cycle"]), name["replica"], int(name["number"]), not name["unfinished"])
            for name in found
            if name is not None and (cycle_ids is None or int(name["cycle"]) in cycle_ids)
        ]
