"""How the stored reports of a cycle are read, and the model is computed that they make.

Nothing here writes: it serves the grid, which closes a cycle, and whoever computes a checkpoint once more.
"""

import asyncio
import secrets
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fedplan.errors import DamagedBlobError, DamagedReportsError, WireError
from fedplan.federation import (
    Average,
    Metrics,
    ServerState,
    Strategy,
    Sums,
    Tensors,
    Update,
    next_model,
    with_folded,
    with_trained,
)
from fedplan.federation.privacy.noise import KEY_BYTES
from fedplan.federation.scratch import Scratch
from fedplan.federation.stored import read_stored
from fedplan.grid.averaging.tally import Tally
from fedplan.grid.blobs import Blobs
from fedplan.grid.records import Checkpoint, Report
from fedplan.wire import State

LOST = (DamagedBlobError, FileNotFoundError, WireError)
"""What reading a stored report raises that is damaged, which one without a checksum may hide, or missing."""


class Reading:
    """The reports of a cycle, in the ways in which strategies take them.

    Each way raises a DamagedReportsError that names all reports that are damaged or missing.

    Args:
        blobs: where they are.
        strategy: the model's.
        received: which they are.
        scratch: folder for a file that may be needed.
    """

    def __init__(self, blobs: Blobs, strategy: Strategy, received: Sequence[Report], scratch: Path) -> None:
        self._blobs = blobs
        self._strategy = strategy
        self._received = received
        self._scratch = scratch
        self._layout = strategy.setting.changing_layout
        self._lost: list[str] = []

    async def streamed(self, tally: Tally) -> tuple[Average, Metrics]:
        """For a strategy that adds up: those that are not in a tally yet are read one at a time.

        The tally cannot be used again.
        """
        for report in self._received:
            if report.blob not in tally.counted:
                update = await self._update(report)
                if update is not None:
                    await asyncio.to_thread(tally.add, self._strategy, report.blob, update)
        self._check()
        return await asyncio.to_thread(tally.sums.average, last=True), tally.sums.metrics

    async def gathered(self, before: ServerState) -> tuple[Average, Metrics]:
        """For a strategy that needs all of them together."""
        if self._strategy.combine is not None:
            return await self._combined(self._strategy.combine, before)
        return await self._folded(self._strategy.fold)

    async def _combined(self, combine: Any, before: ServerState) -> tuple[Average, Metrics]:
        """The trained tensors of all reports go into one file, which the strategy reads by slices."""
        sums = self._strategy.nothing()
        setting = self._strategy.setting
        with Scratch(self._scratch, setting) as scratch:
            for report in self._received:
                update = await self._update(report)
                if update is not None:
                    await asyncio.to_thread(self._put, sums, scratch, update)
            self._check()
            vector = await asyncio.to_thread(combine, scratch, before)
        return await asyncio.to_thread(
            lambda: with_trained(sums.average(last=True), setting, vector)
        ), sums.metrics

    async def _folded(self, fold: Any) -> tuple[Average, Metrics]:
        """The diffs of all reports, one after the other."""
        sums = self._strategy.nothing()
        loop = asyncio.get_running_loop()

        def averaged() -> Average:
            diff = fold(diffs())
            return with_folded(sums.average(last=True), diff)

        def diffs() -> Iterator[Tensors]:
            for report in self._received:
                update = asyncio.run_coroutine_threadsafe(self._update(report), loop).result()
                if update is not None:
                    self._strategy.add(sums, update)
                    yield update.tensors
            self._check()

        # a thread of its own: those that all share could each wait here for one that reads a blob
        with ThreadPoolExecutor(1, "fedplan-fold") as own:
            return await loop.run_in_executor(own, averaged), sums.metrics

    def _put(self, sums: Sums, scratch: Scratch, update: Update) -> None:
        contribution = self._strategy.contribution(update)
        sums.add(update, contribution)
        scratch.add(update.tensors, contribution.factor)

    async def _update(self, report: Report) -> Update | None:
        """A report's update; None when what is stored of it is damaged or missing, which is noted."""
        try:
            data = await self._blobs.get(report.blob)
            return await asyncio.to_thread(read_stored, data, self._layout, report.staleness)
        except LOST:
            self._lost.append(report.blob)
            return None

    def _check(self) -> None:
        if self._lost:
            raise DamagedReportsError(tuple(self._lost))


async def start_of(blobs: Blobs, checkpoint: Checkpoint) -> tuple[bytes, ServerState]:
    """What a cycle starts from: the State of what changes of the model, and what the strategy remembers.

    Raises:
        DamagedBlobError, FileNotFoundError: one of them is damaged or missing.
    """
    before = ServerState()
    if checkpoint.state is not None:
        kept = await blobs.get(checkpoint.state)
        before = await asyncio.to_thread(ServerState.parse, kept)
    return await blobs.get(checkpoint.blob), before


def changed(strategy: Strategy, model: bytes, averaged: Average, before: ServerState) -> tuple[bytes, bytes]:
    """The State of what changes of the model, and what the strategy remembers, after a cycle.

    Args:
        strategy: the model's.
        model: its State before the cycle.
        averaged: the average of the cycle's reports.
        before: what the strategy remembered.
    """
    key = secrets.token_bytes(KEY_BYTES)  # of the noise, for this time alone: it is written nowhere
    after, remembered = next_model(strategy, State.parse(model).tensors, averaged, before, key)
    written = remembered.serialize() if remembered.tensors else b""
    return State.of(after, strategy.setting.changing).serialize(), written
