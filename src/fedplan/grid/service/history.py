"""What came of a model's cycles: the owner's view of the past."""

from fedplan.federation.privacy import Spending
from fedplan.federation.sums import told_metrics
from fedplan.grid.grid import Grid
from fedplan.grid.records import Cycle, CycleSummary, Phase
from fedplan.grid.service.status import moment
from fedplan.grid.store import rounds, spendings
from fedplan.wire.messages import HistoryReply, HistoryRequest, HistoryRow

_NOTHING = CycleSummary(0, 0.0, {})


async def history(grid: Grid, request: HistoryRequest) -> HistoryReply:
    """The cycles of a model that have ended.

    Raises:
        NotFoundError: there is no such model.
    """
    process = await grid.known.find(request.name, request.version)
    async with grid.store.reading(long=True) as db:
        ended = await rounds.history(db, process.id)
        private = process.server_config.privacy is not None
        ledger = await spendings.of_process(db, process.id) if private else ()
    spent = {spending.cycle: spending for spending in ledger}
    return HistoryReply(
        rows=[_row(cycle, checkpoint, spent.get(cycle.number)) for cycle, checkpoint in ended]
    )


def _row(cycle: Cycle, checkpoint: int, spent: Spending | None) -> HistoryRow:
    summary = cycle.summary or _NOTHING
    return HistoryRow(
        cycle=cycle.number,
        task=cycle.task.value,
        checkpoint=checkpoint,
        phase="done" if cycle.phase is Phase.DONE else "failed",
        opened_at=moment(cycle.opened_at),
        closed_at=moment(cycle.closed_at or cycle.opened_at),
        workers=cycle.occupied + cycle.evaluators,
        reports=summary.reports,
        damaged=cycle.damaged or None,
        samples=summary.samples,
        metrics=told_metrics(summary.metrics),
        failure=cycle.failure,
        privacy=None if spent is None else spent.told,
    )
