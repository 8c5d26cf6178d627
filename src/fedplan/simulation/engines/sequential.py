"""One client after the other, in this process: the engine that defines what the results are."""

from collections.abc import Iterator

from fedplan.errors import AggregationError
from fedplan.federation import Task
from fedplan.simulation.engines.engine import Inbox
from fedplan.simulation.participation import Participants
from fedplan.simulation.states import ClientState
from fedplan.simulation.work import Report, Sent, Work
from fedplan.wire import State, Summary, with_summary


class Sequential:
    """See `Engine`."""

    name = "sequential"
    at_once = 0

    def run(self, work: Work, gathered: Inbox) -> Iterator[Sent]:
        """See `Engine`."""
        participants = Participants(work)
        for client in work.clients:
            if work.task is Task.EVALUATION:
                yield measure(client, *participants.measurement_of(client), gathered)
            else:
                yield take(participants.report_of(client), gathered)

    def close(self) -> None:
        """There is nothing to close."""


def take(report: Report, gathered: Inbox) -> Sent:
    """Adds a report, if a grid would take it."""
    refusal = report.refusal
    if report.update is not None:
        try:
            gathered.add(report.update)
        except AggregationError as error:  # a number so large that no sum can hold it
            refusal = str(error)
    return Sent(report.client, report.bytes, report.state, refusal)


def measure(client: int, summary: Summary, state: ClientState, gathered: Inbox) -> Sent:
    """Adds what a client measures that does not train.

    Args:
        client: its number.
        summary: what it tells.
        state: what it remembers afterwards.
        gathered: takes it.
    """
    gathered.measure(summary)
    return Sent(client, _size_of(summary), state)


def _size_of(summary: Summary) -> int:
    """Bytes of a report that holds no tensors."""
    return len(with_summary(State.of(()).serialize(), summary))
