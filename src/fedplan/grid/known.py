"""What is hosted, remembered: none of it ever changes, and almost every call needs some.

What may change is looked up in the store each time: whether a model is still there, and the revision of its
configurations.
"""

import asyncio
import contextlib
import dataclasses
from collections.abc import Callable, Mapping

from fedplan.errors import NotFoundError
from fedplan.federation import Reach, Strategy, reach_of, strategy_of
from fedplan.grid.averaging.apart import Apart
from fedplan.grid.blobs import Blobs
from fedplan.grid.memory import Memory
from fedplan.grid.records import Checkpoint, Cycle, Hosted, Process, Running
from fedplan.grid.store import Store, catalogue, rounds
from fedplan.grid.store.connection import Db
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
        apart: runs their averaging Plans.
    """

    def __init__(self, store: Store, blobs: Blobs, apart: Apart) -> None:
        self._store = store
        self._blobs = blobs
        self._apart = apart
        self._hosted: Memory[tuple[int, int], Hosted] = Memory(_HOSTED_BYTES)
        self._checkpoints: Memory[int, Checkpoint] = Memory(_COUNT)
        self._reaches: Memory[int, Reach] = Memory(_COUNT)
        self._strategies: Memory[tuple[int, int], Strategy] = Memory(_COUNT)
        self._metrics: Memory[tuple[int, str], _Measured] = Memory(_CHECKPOINTS)

    async def hosted(self, id: int, revision: int = 0, db: Db | None = None) -> Hosted:
        """What was hosted as the FL process of an id. It is also remembered of one that was deleted.

        Args:
            id: the FL process.
            revision: of its configurations; by default with those that it was hosted with.
            db: the transaction of the caller, if it is in one.

        Raises:
            NotFoundError: it was deleted.
        """
        found = self._hosted.get((id, revision))
        if found is not None:
            return found
        async with self._store.reading() if db is None else contextlib.nullcontext(db) as used:
            found = await catalogue.hosted(used, await catalogue.get_process(used, id, revision))
        self._hosted.put((id, revision), found, _size(found))
        return found

    async def of_cycle(self, cycle: Cycle | Running, db: Db | None = None) -> Hosted:
        """What a cycle trains, with the configurations with which it began; see `hosted`."""
        return await self.hosted(cycle.process_id, cycle.revision, db)

    async def newest(self, id: int) -> Process:
        """The FL process of an id, with its newest configurations.

        Raises:
            NotFoundError: it was deleted.
        """
        async with self._store.reading() as db:
            return await catalogue.get_process(db, id)

    async def find(self, name: str, version: str | None) -> Process:
        """The FL process of a name, with its newest configurations; without a version the one hosted last.

        Raises:
            NotFoundError: there is none.
        """
        async with self._store.reading() as db:
            if version is None:
                process = await catalogue.find_process(db, name, version)
            else:
                found = await catalogue.find_revision(db, name, version)
                process = None if found is None else (await self.hosted(*found, db)).process
        if process is None:
            which = f"'{name}'" if version is None else f"'{name}' version '{version}'"
            raise NotFoundError(f"this grid hosts no model {which}; `fedplan status` lists what it hosts")
        return process

    async def checkpoint(self, id: int) -> Checkpoint:
        """The checkpoint of an id.

        Raises:
            NotFoundError: its model was deleted.
        """
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
        found = self._strategies.get((process.id, process.revision))
        if found is None:
            if process.averaging_plan is None:
                found = strategy_of(process.setting)
            else:
                load = self._loader(process.averaging_plan)
                found = dataclasses.replace(
                    strategy_of(process.setting, lambda: Plan.parse(load())),
                    fold=self._apart.fold(load, process.setting),
                )
            self._strategies.put((process.id, process.revision), found)
        return found

    def _loader(self, blob: str) -> Callable[[], bytes]:
        loop = asyncio.get_running_loop()
        return lambda: asyncio.run_coroutine_threadsafe(self._blobs.get(blob), loop).result()

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

        Those are left out that were dropped.

        Only cycles are read that have ended since it was asked for the last time.
        """
        found = self._metrics.get((process_id, metric)) or _Measured()
        async with self._store.reading(long=True) as db:
            ended = await rounds.history(db, process_id, found.until)
            dropped = await catalogue.dropped(db, process_id)
        for cycle, checkpoint in ended:
            found.until = max(found.until, cycle.number)
            if cycle.summary is not None and metric in cycle.summary.metrics:
                found.values[checkpoint] = cycle.summary.metrics[metric].mean.value
        self._metrics.put((process_id, metric), found, 1 + len(found.values))
        return {number: value for number, value in found.values.items() if number not in dropped}


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
