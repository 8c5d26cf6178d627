"""What an engine is."""

from collections.abc import Iterator
from typing import Protocol

from fedplan.federation import Update, UpdateBlock
from fedplan.simulation.gathering import Gathered
from fedplan.simulation.work import Sent, Work
from fedplan.wire import Summary


class Inbox(Protocol):
    """What takes the reports that an engine computes; `Gathered` is one."""

    def add(self, update: Update) -> None:
        """Adds a report of a training. Who calls it may write over the report's arrays afterwards.

        Raises:
            AggregationError: a number is too large to be added up.
        """

    def measure(self, summary: Summary) -> None:
        """Adds what a client measured that does not train."""


class BlockInbox(Inbox, Protocol):
    """What takes several reports at once; `Gathered` is one."""

    def add_block(self, block: UpdateBlock) -> None:
        """Adds reports of a training, in their order.

        Raises:
            AggregationError: they have to be added one by one; nothing was added.
        """


class Engine(Protocol):
    """Computes what clients do in a cycle, and adds their reports up.

    Engines differ in where and how many clients at a time they compute. What a client reports is a function
    of its data, the model, the cycle and the seed; an engine says where its results differ in the last bits
    from those of the sequential one.
    """

    @property
    def name(self) -> str:
        """As users name it."""

    @property
    def at_once(self) -> int | None:
        """How many clients are computed side by side; 0 when each is computed alone, by a worker's own code.

        It decides the last bits of results, so a run keeps it. None until it is decided.
        """

    def run(self, work: Work, gathered: Gathered) -> Iterator[Sent]:
        """Does all of the work, and yields what each client sent, in an order that the engine chooses.

        A report that a grid would refuse is not added, and the client remembers what it did before. Where the
        strategy needs all reports, they are added in the order of ``work.clients``.

        Args:
            work: what clients do.
            gathered: takes the reports. It is complete when the iterator has come to its end.

        Raises:
            FedplanError: a client's data cannot be used, or a Plan failed; says which client.
        """

    def close(self) -> None:
        """Ends processes, and frees memory."""
