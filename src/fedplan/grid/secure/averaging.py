"""The end of a secure round: the masks come off the sum, and the average of it changes the model."""

import asyncio

from fedplan.errors import DamagedBlobError, SecureRoundError
from fedplan.federation import UNMASKING
from fedplan.federation.secure import MaskedSum, Payload, average_of, unmask
from fedplan.federation.secure.cycles import average_for, metrics_of, next_exponents
from fedplan.grid.averaging.average import Averaged, keep_average
from fedplan.grid.averaging.reading import changed, start_of
from fedplan.grid.grid import Grid
from fedplan.grid.records import Checkpoint, Cycle, CycleSummary, Process
from fedplan.grid.secure import queries
from fedplan.grid.secure.memory import Settled
from fedplan.grid.secure.settled import settled, with_shares


async def averaged(grid: Grid, process: Process, cycle: Cycle, checkpoint: Checkpoint) -> Averaged:
    """Unmasks the sum of a cycle's reports, and stores the model that its average makes.

    Done again, as after a kill, it is the same sum of the same workers.

    Raises:
        SecureRoundError: the round ends without a sum.
        AggregationError: the average cannot change the model.
        DamagedBlobError, FileNotFoundError: the model, or what the strategy remembers, is damaged or missing.
    """
    async with grid.store.reading() as db:
        said = await queries.said(db, cycle.id)
    found = await settled(grid, cycle.id)
    if said.failure is not None or said.lists is None or found is None:
        raise SecureRoundError(said.failure or "the round has not come to the sum")
    total = await _sum(grid, cycle, await with_shares(grid, cycle.id, found), said.lists)
    model, before = await start_of(grid.blobs, checkpoint)
    manifest, reports = found.terms.manifest, len(found.lists(said.lists).reported)
    secure = average_of(manifest, total)
    average = average_for(process.setting, secure, reports)
    strategy = grid.known.strategy(process)
    data, state = await asyncio.to_thread(changed, strategy, model, average, before)
    async with grid.store.writing() as db:
        await queries.note_exponents(db, cycle.id, next_exponents(manifest, secure, reports))
    summary = CycleSummary(reports, average.samples, metrics_of(secure, reports))
    return await keep_average(grid, data, state, summary)


async def _sum(grid: Grid, cycle: Cycle, found: Settled, lists: bytes) -> Payload:
    async with grid.store.reading() as db:
        reports = await queries.reports_of(db, cycle.id)
        answers = await queries.messages_of(db, cycle.id, UNMASKING)
    shares = found.shared or {}
    masked = MaskedSum(found.terms, frozenset(shares))
    for place, blob in reports.items():
        try:
            report = await grid.blobs.get(blob)
        except (DamagedBlobError, FileNotFoundError):
            raise SecureRoundError(
                "what was stored of a masked report is damaged or missing, and the sum was asked for with "
                "it: the round ends without a sum"
            ) from None
        await asyncio.to_thread(masked.add, found.number(place), report)
    told = {found.number(place): message for place, message in answers.items()}
    return await asyncio.to_thread(unmask, found.terms, found.lists(lists), shares, masked, told)
