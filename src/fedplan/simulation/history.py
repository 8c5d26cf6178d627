"""What came of the cycles of a simulation."""

from collections.abc import Iterator, Sequence

from fedplan.client.owner.history import History
from fedplan.wire.messages import HistoryReply, HistoryRow


class SimulatedRow(HistoryRow):
    """A cycle of a simulation. Its times are those of the virtual clock, which began in 1970.

    What was measured on the test data is of the checkpoint that the cycle made, and begins with ``test_``.
    All other metrics are what a grid's history has of the cycle.
    """

    report_bytes: int
    """Of the reports that were taken."""
    refused: int
    """Reports that were refused."""
    late: int
    """Reports that would have come when it was too late for them."""
    gone: int
    """Places of clients that never reported."""
    seconds: float
    """How long the cycle took to simulate."""


class SimulatedHistory(History):
    """The cycles of a simulation, the oldest first; see `History`."""

    columns = (*History.columns, "report_bytes", "refused", "late", "gone", "seconds")

    def __init__(self, rows: Sequence[SimulatedRow]) -> None:
        """The history of these cycles."""
        super().__init__(HistoryReply(rows=list(rows)))

    def __iter__(self) -> Iterator[SimulatedRow]:
        return (row for row in super().__iter__() if isinstance(row, SimulatedRow))
