"""Events that may come very often: one stands for all that were alike for a while.

Anybody can be refused as often as it asks, and a program may use its token every second. So these are counted
in memory, by what they have in common, and written now and then: the first ones at once, then after pauses
that double. However many come, how many rows they make depends on the number of different causes alone, which
is bounded too. A replica that is killed loses what it had counted since it last wrote.
"""

import dataclasses
from collections.abc import Callable, Hashable, Sequence

from fedplan.grid.memory import Memory
from fedplan.grid.observing.correlation import Actor, Correlation, current
from fedplan.grid.observing.events import MOST_TOLD, Event, Kind

_LONGEST_PAUSE = 300.0
"""Seconds between two events of one cause that goes on, and after which one that does not is forgotten."""

_MOST_CAUSES = 200
"""Causes that are told apart at once; those beyond are one for each kind."""

_OTHER_CAUSES = "other causes, of which there are too many to tell each"

_MOST_WORKERS = 10_000
"""Workers of which the latest refusal is remembered."""


@dataclasses.dataclass(frozen=True, slots=True)
class Told:
    """The latest refusal of a worker.

    Attributes:
        at: when, by the monotonic clock.
        event: what was refused, and why.
    """

    at: float
    event: Event


@dataclasses.dataclass(slots=True)
class _Bundle:
    """What was alike.

    Attributes:
        event: the first of them since it was written.
        next_at: from when on it is written again.
        pause: how long it is not written then.
        last: when it came last.
        times: how often it came since it was written.
        actors: some of those who did it, in the order in which they came.
        addresses: some of where they were.
        request: the first's.
        since: when the first came.
    """

    event: Event
    next_at: float
    pause: float
    last: float
    times: int = 0
    actors: dict[Actor, None] = dataclasses.field(default_factory=dict)
    addresses: dict[str, None] = dataclasses.field(default_factory=dict)
    request: Correlation | None = None
    since: float = 0.0


class Bundles:
    """Counts events that are alike.

    Args:
        monotonic: seconds from any moment on, which nobody sets.
        pause: seconds until a cause that is new is written, during which others may join.
    """

    def __init__(self, monotonic: Callable[[], float], pause: float) -> None:
        self._monotonic = monotonic
        self._pause = pause
        self._bundles: dict[Hashable, _Bundle] = {}
        self._refused: Memory[str, Told] = Memory(_MOST_WORKERS)

    def add(self, event: Event, alike: Hashable) -> None:
        """Counts an event. Who sent the request that is being answered did it, unless the event says who.

        Args:
            event: the event.
            alike: what it has in common with those that it is bundled with, beside kind, model and cycle.
                Peers must not be able to make ever new ones.
        """
        now, request = self._monotonic(), current()
        actor = event.actor or (None if request is None else request.actor)
        if event.kind is Kind.REFUSED and actor is not None and actor.role == "worker" and actor.id:
            self._refused.put(actor.id, Told(now, event))
        bundle = self._bundle(event, alike, now)
        if not bundle.times:
            bundle.request, bundle.since = request, now
        bundle.times += 1
        bundle.last = now
        if actor is not None and len(bundle.actors) < MOST_TOLD:
            bundle.actors.setdefault(actor)
        address = None if request is None else request.address
        if address is not None and len(bundle.addresses) < MOST_TOLD:
            bundle.addresses.setdefault(address)

    def last_refusal(self, worker: str) -> Told | None:
        """The latest refusal of a worker by this replica, if it is remembered."""
        return self._refused.get(worker)

    def take(self, *, everything: bool = False) -> Sequence[Event]:
        """The events that are to be written now.

        Args:
            everything: also those whose time has not come: the replica ends.
        """
        now = self._monotonic()
        taken = []
        for key, bundle in list(self._bundles.items()):
            if bundle.times and (everything or now >= bundle.next_at):
                taken.append(_event_of(bundle, now))
                bundle.times = 0
                bundle.actors.clear()
                bundle.addresses.clear()
                bundle.next_at = now + bundle.pause
                bundle.pause = min(2 * bundle.pause, _LONGEST_PAUSE)
            elif not bundle.times and now - bundle.last > _LONGEST_PAUSE:
                del self._bundles[key]
        return taken

    def _bundle(self, event: Event, alike: Hashable, now: float) -> _Bundle:
        key: Hashable = (event.kind, event.model, event.version, event.cycle, alike)
        if key not in self._bundles and not self._has_room():
            key, event = event.kind, Event(event.kind, _OTHER_CAUSES)
        bundle = self._bundles.get(key)
        if bundle is None:
            bundle = self._bundles[key] = _Bundle(event, now + self._pause, self._pause, now)
        elif not bundle.times:
            bundle.event = event
        return bundle

    def _has_room(self) -> bool:
        """Whether one more cause can be told apart; the one that has been quiet for longest makes room."""
        if len(self._bundles) < _MOST_CAUSES:
            return True
        quiet = [(bundle.last, id) for id, bundle in enumerate(self._bundles.values()) if not bundle.times]
        if not quiet:
            return False
        del self._bundles[list(self._bundles)[min(quiet)[1]]]
        return True


def _event_of(bundle: _Bundle, now: float) -> Event:
    """The event that stands for a bundle."""
    actors = list(bundle.actors)
    actor = actors[0] if len(actors) == 1 else Actor("several" if actors else "anybody")
    details = dict(bundle.event.details)
    if bundle.times > 1:
        details |= {"times": bundle.times, "seconds": round(now - bundle.since, 1)}
        workers = [one.id for one in actors if one.role == "worker"]
        details |= {"workers": workers} if len(workers) > 1 else {}
        details |= {"addresses": list(bundle.addresses)} if len(bundle.addresses) > 1 else {}
    return dataclasses.replace(bundle.event, actor=actor, details=details, request=bundle.request)
