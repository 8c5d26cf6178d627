"""Events: who listens, and what they are told."""

import dataclasses
import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, TypeVar, overload

from fedplan.client.model import SyftModel
from fedplan.errors import ConfigError, UnknownEventError
from fedplan.text import did_you_mean

Handler = Callable[..., Awaitable[None] | None]
H = TypeVar("H", bound=Handler)


@dataclasses.dataclass(frozen=True, slots=True)
class Accepted:
    """The grid has taken the worker into a cycle, and everything is downloaded.

    Attributes:
        model: the model as it is before training.
        client_config: what the model owner set for the workers.
    """

    model: SyftModel
    client_config: dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Rejected:
    """The grid has not taken the worker into a cycle.

    Attributes:
        timeout: seconds after which another request makes sense; None when the model is not trained any more.
        at_latest: True when that is the time until the cycle ends at the latest, which is all that a PyGrid
            node tells: another request may make sense much sooner, as soon as the cycle has its reports.
        reason: why, in the grid's words; None where it tells none.
    """

    timeout: float | None
    at_latest: bool = False
    reason: str | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class SecureStaged:
    """The grid has taken what the worker sends at a stage of a secure round.

    Attributes:
        stage: ``"keys"``, ``"shares"``, ``"reports"`` or ``"unmasking"``.
    """

    stage: str


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingStart:
    """The training begins, or goes on."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingEnd:
    """All epochs are done."""


@dataclasses.dataclass(frozen=True, slots=True)
class TrainingStop:
    """The training was stopped before its end."""


@dataclasses.dataclass(frozen=True, slots=True)
class EpochStart:
    """An epoch begins, or goes on after a stop.

    Attributes:
        epoch: its number, from 0.
    """

    epoch: int


@dataclasses.dataclass(frozen=True, slots=True)
class EpochEnd:
    """An epoch is done.

    Attributes:
        epoch: its number, from 0.
    """

    epoch: int


@dataclasses.dataclass(frozen=True, slots=True)
class BatchStart:
    """The Plan is about to run on a batch.

    Attributes:
        epoch: number of the epoch, from 0.
        batch: number of the batch in the epoch, from 0.
    """

    epoch: int
    batch: int


@dataclasses.dataclass(frozen=True, slots=True)
class BatchEnd:
    """The Plan has run on a batch.

    Attributes:
        epoch: number of the epoch, from 0.
        batch: number of the batch in the epoch, from 0.
        loss: the batch's loss; None when the Plan does not return it.
        metrics: by name, a float each, or (nested) lists where a metric is not a single number.
    """

    epoch: int
    batch: int
    loss: float | None = None
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)


TRAINING_EVENTS = ("start", "end", "stop", "epoch_start", "epoch_end", "batch_start", "batch_end")
"""The events of a `PlanTrainer`."""


class Events:
    """The handlers of one object's events.

    A handler is a plain function or a coroutine function. It takes the event's payload, or nothing. Handlers
    run one after the other, in the order in which they were registered, and a coroutine is awaited, so what
    emits the event waits for them. An exception in a handler is not caught: it reaches whoever awaits what
    emitted the event.
    """

    def __init__(self, *names: str) -> None:
        self._handlers: dict[str, list[Handler]] = {name: [] for name in names}

    def __getitem__(self, name: str) -> list[Handler]:
        """The handlers of an event: a list that stays the same object."""
        try:
            return self._handlers[name]
        except KeyError:
            raise UnknownEventError(
                f"there is no event '{name}'; the events are {', '.join(self._handlers)}"
                f"{did_you_mean(str(name), self._handlers)}"
            ) from None

    @overload
    def on(self, event: str, handler: H) -> H: ...
    @overload
    def on(self, event: str, handler: None = None) -> Callable[[H], H]: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Registers a handler, or gives a decorator that does.

        Raises:
            UnknownEventError: there is no such event; the message lists those that exist.
            ConfigError: the handler is no function.
        """
        handlers = self[event]

        def register(handler: H) -> H:
            if not callable(handler):
                raise ConfigError(f"the handler of '{event}' must be a function, not {handler!r}")
            handlers.append(_taking_payload(handler))
            return handler

        return register if handler is None else register(handler)

    def on_each(self, handlers: Mapping[str, Handler]) -> None:
        """Registers handlers by the names of their events.

        Raises:
            UnknownEventError: there is no such event.
            ConfigError: it is no mapping.
        """
        if not isinstance(handlers, Mapping):
            raise ConfigError(f"events must be a dict of handlers, not a {type(handlers).__name__}")
        for name, handler in handlers.items():
            self.on(name)(handler)

    async def emit(self, event: str, payload: object) -> None:
        """Calls the handlers of an event."""
        for handler in tuple(self._handlers[event]):
            result = handler(payload)
            if result is not None and inspect.isawaitable(result):
                await result


class Observed:
    """An object with events."""

    _events: Events

    @overload
    def on(self, event: str, handler: H) -> H: ...
    @overload
    def on(self, event: str, handler: None = None) -> Callable[[H], H]: ...
    def on(self, event: str, handler: H | None = None) -> H | Callable[[H], H]:
        """Registers an event handler; without a handler it gives a decorator.

        Whatever fires an event waits for its handlers, and raises what they raise; see `Events`.

        Args:
            event: name of the event.
            handler: plain or coroutine function, which takes the payload or nothing.

        Raises:
            UnknownEventError: there is no such event. (The reference ignores it.)
        """
        return self._events.on(event) if handler is None else self._events.on(event, handler)


def _taking_payload(handler: Handler) -> Handler:
    """The handler, or, where it takes no argument, one that drops the payload."""
    try:
        inspect.signature(handler).bind(None)
    except TypeError:
        return lambda _payload: handler()
    except ValueError:  # some builtins have no signature
        pass
    return handler
