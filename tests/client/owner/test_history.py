"""A model's history as tables, of which long ones take no longer a row than short ones."""

import csv
import datetime
import io

from fedplan.client.owner.history import History
from fedplan.wire.messages import HistoryReply, HistoryRow, MetricStatus

OPENED = datetime.datetime(2026, 1, 2, 3, 4, tzinfo=datetime.UTC)


def row(cycle: int, **metrics: float) -> HistoryRow:
    return HistoryRow(
        cycle=cycle,
        checkpoint=cycle,
        phase="done",
        opened_at=OPENED,
        closed_at=OPENED,
        workers=3,
        reports=2,
        samples=40.0,
        metrics={name: MetricStatus(value=value, weight=40.0, workers=2) for name, value in metrics.items()},
    )


class Watched(History):
    looks = 0

    @property
    def metrics(self) -> list[str]:
        self.looks += 1
        return super().metrics


def test_the_names_of_metrics_are_looked_for_once_and_not_for_each_cycle() -> None:
    history = Watched(HistoryReply(rows=[row(cycle, loss=1.0) for cycle in range(1, 101)]))
    assert len(history.to_dicts()) == 100
    assert history.looks == 1


def test_each_row_has_all_metrics() -> None:
    history = History(HistoryReply(rows=[row(1, loss=0.5), row(2, accuracy=0.25)]))
    assert [(told["cycle"], told["accuracy"], told["loss"]) for told in history.to_dicts()] == [
        (1, None, 0.5),
        (2, 0.25, None),
    ]
    lines = list(csv.DictReader(io.StringIO(history.to_csv())))
    assert [(line["accuracy"], line["loss"]) for line in lines] == [("", "0.5"), ("0.25", "")]
