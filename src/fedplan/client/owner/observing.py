"""What those may ask a grid who may observe it: why a model does not go on, and what happened."""

from collections.abc import AsyncIterator, Iterator

from fedplan.client.counts import positive_integer
from fedplan.client.loops.blocking import blocking_iterator, blocking_twin
from fedplan.client.owner.events import Events, each_event, newest_events
from fedplan.client.owner.why import Why
from fedplan.client.transport.connection import GridConnection
from fedplan.errors import ConfigError
from fedplan.wire.messages import EVENTS_AT_ONCE, WHY, EventRow, WhyReply, worker_name


class GridObserver(GridConnection):
    """A client that sees what happens on a grid."""

    async def why_async(self, name: str, version: str, *, worker: str | None = None) -> Why:
        """Asks what a model waits for, and what became of a worker. ::

            print(grid.why("mnist", "1.0.0"))
            # cycle 7 waits for 3 of 8 reports; 7 workers joined, 2 silent, the first for 11 min, places lapse
            # at 14:05:12

        Args:
            name: name of the FL process.
            version: its version.
            worker: the id of a worker, or its name in `events`; an id is not sent.

        Raises:
            GridResponseError: there is no such model, or the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        who = None if worker is None else worker_name(worker)
        return Why(await self._grid.look(WHY, WhyReply, name=name, version=str(version), worker=who))

    async def events_async(
        self, name: str | None = None, version: str | None = None, *, last: int = 100
    ) -> Events:
        """Asks for the newest events: what happened on the grid, who did it, and why.

        Args:
            name: only those about models of this name; all by default.
            version: only those about this version.
            last: how many at most, up to 1,000; `each_event` gives all.

        Raises:
            ConfigError: `last` is none of these numbers.
            GridResponseError: there are none about such a model, and it is not hosted; or the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        if positive_integer(last, "last") > EVENTS_AT_ONCE:
            raise ConfigError(f"'last' is {EVENTS_AT_ONCE} at most; each_event gives all events")
        return await newest_events(self._grid, name, version, last)

    def each_event_async(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        after: str = "0",
        follow: bool = False,
    ) -> AsyncIterator[EventRow]:
        """All events that the grid keeps, the oldest first, and those that happen then.

        Args:
            name: only those about models of this name; all by default.
            version: only those about this version.
            after: the id of an event: only those behind it.
            follow: go on with what happens from then on, without end. A grid that is away is waited for, up
                to five minutes; nothing is missed or told twice.

        Raises:
            GridResponseError: there are none about such a model, and it is not hosted; or the grid refused.
            GridConnectionError: the grid could not be reached.
        """
        return each_event(self._grid, name, version, after, follow=follow)

    def each_event(
        self,
        name: str | None = None,
        version: str | None = None,
        *,
        after: str = "0",
        follow: bool = False,
    ) -> Iterator[EventRow]:
        """Blocking form of `each_event_async`."""
        return blocking_iterator(self.each_event_async(name, version, after=after, follow=follow))

    why = blocking_twin(why_async)
    events = blocking_twin(events_async)
