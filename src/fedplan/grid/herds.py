"""How many rejected workers wait, by what they were told: each process counts those that it has told."""

import dataclasses
import heapq


@dataclasses.dataclass(slots=True)
class _Herd:
    """Those of one model: how many were told each second, and the seconds as a heap."""

    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    seconds: list[int] = dataclasses.field(default_factory=list)
    total: int = 0


class Herds:
    """Rejected workers by model, until the time comes at which they were told to ask again."""

    def __init__(self) -> None:
        self._herds: dict[int, _Herd] = {}

    def add(self, process_id: int, until: float) -> None:
        """Counts a worker until the time that it was told."""
        herd, second = self._herds.setdefault(process_id, _Herd()), int(until)
        if second not in herd.counts:
            heapq.heappush(herd.seconds, second)
        herd.counts[second] = herd.counts.get(second, 0) + 1
        herd.total += 1

    def count(self, process_id: int, now: float) -> int:
        """How many wait for a model."""
        herd = self._herds.get(process_id)
        if herd is None:
            return 0
        while herd.seconds and herd.seconds[0] < now:
            herd.total -= herd.counts.pop(heapq.heappop(herd.seconds))
        if not herd.seconds:
            del self._herds[process_id]
        return herd.total
