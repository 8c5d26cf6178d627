"""What is hosted, remembered: none of it ever changes, and almost every call needs some."""

import asyncio
import dataclasses
from collections.abc import Callable, Mapping

from fedplan.errors import NotFoundError
from fedplan.federation import Reach, Strategy, reach_of, strategy_of
from fedplan.grid.blobs import Blobs
from fedplan.grid.memory import Memory
from fedplan.grid.records import Checkpoint, Hosted, Process
from fedplan.grid.store import Store, catalogue, rounds
from fedplan.plan import Plan
from fedplan.wire import State

_HOSTED_BYTES = 64 * 1024 * 1024
_COUNT = 10_000
_CHECKPOINTS = 1_000_000
"""Of all models, those of which a metric is remembered."""


class Known:
    """FL processes and checkpoints, from memory where they were used before.

    Args:
        store: where they are.
        blobs: where their models are.
    """

    def __init__(self, store: Store, blobs: Blobs) -> None:
        self._store = store
        self._blobs = blobs
        self._hosted: Memory[int, Hosted] = Memory(_HOSTED_BYTES)
        self._ids: Memory[tuple[str, str], int] = Memory(_COUNT)
        self._checkpoints: Memory[int, Checkpoint] = Memory(_COUNT)
        self._reaches: Memory[int, Reach] = Memory(_COUNT)
        self._strategies: Memory[int, Strategy] = Memory(_COUNT)
        self._metrics: Memory[tuple[int, str], _Measured] = Memory(_CHECKPOINTS)

    async def hosted(self, id: int) -> Hosted:
        """What was hosted as the FL process of an id that is known to exist."""
        found = self._hosted.get(id)
        if found is not None:
            return found
        async with self._store.reading() as db:
            found = await catalogue.hosted(db, await catalogue.get_process(db, id))
        self._hosted.put(id, found, _size(found))
        return found

    async def find(self, name: str, version: str | None) -> Process:
        """The FL process of a name; without a version the one hosted last.

        Raises:
            NotFoundError: there is none.
        """
        id = None if version is None else self._ids.get((name, version))
        if id is not None:
            return (await self.hosted(id)).process
        async with self._store.reading() as db:
            process = await catalogue.find_process(db, name, version)
        if process is None:
            which = f"'{name}'" if version is None else f"'{name}' version '{version}'"
            raise NotFoundError(f"this grid hosts no model {which}")
        self._ids.put((process.name, process.version), process.id)
        return process

    async def checkpoint(self, id: int) -> Checkpoint:
        """The checkpoint of an id that is known to exist."""
        found = self._checkpoints.get(id)
        if found is None:
            async with self._store.reading() as db:
                found = await catalogue.get_checkpoint(db, id)
            self._checkpoints.put(id, found)
        return found

    def strategy(self, process: Process) -> Strategy:
        """The strategy of an FL process. Its `fold` must run in a thread: it waits for the event loop.

        Raises:
            ConfigError: this grid does not know it; the one that hosted the model did.
        """
        found = self._strategies.get(process.id)
        if found is None:
            load = None if process.averaging_plan is None else self._loader(process.averaging_plan)
            found = strategy_of(process.setting, load)
            self._strategies.put(process.id, found)
        return found

    def _loader(self, blob: str) -> Callable[[], Plan]:
        loop = asyncio.get_running_loop()

        def load() -> Plan:
            return Plan.parse(asyncio.run_coroutine_threadsafe(self._blobs.get(blob), loop).result())

        return load

    async def reach(self, checkpoint: Checkpoint) -> Reach:
        """How far the values of a checkpoint's model reach."""
        found = self._reaches.get(checkpoint.id)
        if found is None:
            model = await self._blobs.get(checkpoint.blob)
            found = await asyncio.to_thread(_reach, model)
            self._reaches.put(checkpoint.id, found)
        return found

    async def metric_by_checkpoint(self, process_id: int, metric: str) -> Mapping[int, float]:
        """A metric of each checkpoint from which a cycle started that has ended, by the checkpoint's number.

        Only cycles are read that have ended since it was asked for the last time.
        """
        found = self._metrics.get((process_id, metric)) or _Measured()
        async with self._store.reading(long=True) as db:
            ended = await rounds.history(db, process_id, found.until)
        for cycle, checkpoint in ended:
            found.until = max(found.until, cycle.number)
            if cycle.summary is not None and metric in cycle.summary.metrics:
                found.values[checkpoint] = cycle.summary.metrics[metric].mean.value
        self._metrics.put((process_id, metric), found, 1 + len(found.values))
        return found.values


@dataclasses.dataclass(slots=True)
class _Measured:
    """A metric of a model's checkpoints, by their numbers, from its cycles up to one that has ended."""

    values: dict[int, float] = dataclasses.field(default_factory=dict)
    until: int = 0


def _reach(model: bytes) -> Reach:
    return reach_of(State.parse(model).tensors)


def _size(hosted: Hosted) -> int:
    """About how many bytes it takes."""
    process = hosted.process
    texts = len(repr(process.client_config)) + len(repr(process.layout)) + len(repr(process.changing))
    return 10_000 + 4 * texts + 1000 * len(hosted.protocols) + 3000 * len(hosted.plans)
